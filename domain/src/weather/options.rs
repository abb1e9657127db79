//! How an analysis is to be made.

use super::{AlphaTable, Between, Combine, Declaration};
use crate::check::{Check, Fault};
use jiff::Timestamp;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// `None`: limits count as they are.
    pub alpha: Option<AlphaTable>,
    pub between: Between,
    pub combine: Combine,
    pub start_from: Option<Timestamp>,
}

/// Options before anything of them was checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OptionsDraft {
    pub uncertainty: Option<String>,
    pub alpha_table: Option<String>,
    pub declared: Vec<String>,
    pub between: Option<String>,
    pub combine: Option<String>,
    pub start_from: Option<Timestamp>,
}

impl OptionsDraft {
    /// Checked for an analysis of so many sources; an inline forecast is one. Faults are at the names
    /// of options, and at `../sources` where sources are too few.
    pub fn check(self, sources: usize) -> Result<Options, Vec<Fault>> {
        let mut check = Check::default();
        let between = match self.between.as_deref() {
            None | Some("worst") => Between::Worst,
            Some("hold") => Between::Hold,
            Some(_) => {
                check.fault(&["between"], "it must be worst or hold");
                Between::Worst
            }
        };
        let combine = match self.combine.as_deref() {
            None | Some("first") => Combine::First,
            Some("worst") => Combine::Worst,
            Some(_) => {
                check.fault(&["combine"], "it must be first or worst");
                Combine::First
            }
        };
        let mut declared = Vec::new();
        for (place, text) in self.declared.iter().enumerate().take(16) {
            match Declaration::parse(text) {
                Some(declaration) => declared.push(declaration),
                None => {
                    let place = place.to_string();
                    let rule = "it must be meteorologist or monitoring";
                    check.fault(&["declared", &place], rule);
                }
            }
        }
        let alpha = match (self.uncertainty.as_deref(), self.alpha_table.as_deref()) {
            (None | Some("none"), None) => None,
            (None | Some("none"), Some(_)) => {
                check.fault(&["alpha_table"], "it counts with uncertainty dnv-alpha only");
                None
            }
            (Some("dnv-alpha"), table) => {
                let table = table.map_or(Some(AlphaTable::T41), AlphaTable::parse);
                if table.is_none() {
                    check.fault(&["alpha_table"], "it must be 4-1, 4-2, 4-3, 4-4 or 4-5");
                }
                table
            }
            (Some(_), _) => {
                check.fault(&["uncertainty"], "it must be none or dnv-alpha");
                None
            }
        };
        for wanted in alpha.map(AlphaTable::declarations).into_iter().flatten() {
            if !declared.contains(wanted) {
                let rule = format!("the table needs the declaration of {}", wanted.as_str());
                check.fault(&["declared"], rule);
            }
        }
        if alpha == Some(AlphaTable::T42) && sources < 2 {
            check.fault(&["..", "sources"], "table 4-2 needs at least two sources");
        }
        if !check.faults.is_empty() {
            return Err(check.faults);
        }
        Ok(Options { alpha, between, combine, start_from: self.start_from })
    }
}
