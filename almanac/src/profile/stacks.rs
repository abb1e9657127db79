//! Stacks with what was counted for them, as pprof and as lines of text.

use super::encoded::{Function, Label, Line, Location, Profile, Sample, ValueType};
use prost::Message;
use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write,
    time::SystemTime,
};

/// Which value lines of text have: of processor time the time, of memory the bytes that were allocated.
const FOLDED: usize = 1;
/// Of a stack, the functions among which are those of whoever took it.
const FIRST: usize = 16;

/// What is counted.
pub(super) struct Value {
    pub(super) of: &'static str,
    pub(super) unit: &'static str,
}

pub(super) struct Stacks {
    profile: Profile,
    /// Places of texts, functions by name and file, and locations by address.
    texts: HashMap<String, i64>,
    functions: HashMap<(i64, i64), u64>,
    locations: HashMap<usize, u64>,
}

impl Stacks {
    /// From then until now. A sample is taken once in a `period` of the last value.
    pub(super) fn new(since: SystemTime, values: &[Value], period: i64) -> Self {
        let nanoseconds = |time: std::time::Duration| i64::try_from(time.as_nanos()).unwrap_or(0);
        let mut stacks = Self {
            profile: Profile {
                time_nanos: since.duration_since(SystemTime::UNIX_EPOCH).map_or(0, nanoseconds),
                duration_nanos: since.elapsed().map_or(0, nanoseconds),
                period,
                ..Profile::default()
            },
            texts: HashMap::new(),
            functions: HashMap::new(),
            locations: HashMap::new(),
        };
        stacks.text("");
        for Value { of, unit } in values {
            let value = ValueType { r#type: stacks.text(of), unit: stacks.text(unit) };
            stacks.profile.sample_type.push(value);
        }
        stacks.profile.period_type = stacks.profile.sample_type.last().copied();
        stacks
    }

    /// Adds the stack with these return addresses, the innermost first. `above` says of the names of its
    /// first functions how many are of whoever took it.
    pub(super) fn add(
        &mut self,
        at: &[usize],
        thread: Option<&str>,
        values: &[i64],
        above: impl Fn(&[&str]) -> usize,
    ) {
        let places: Vec<u64> = at.iter().map(|at| self.location(*at)).collect();
        // One name for each address: that of the function that has the code.
        let names = places.iter().take(FIRST).map(|id| self.names(*id).next_back());
        let names: Vec<&str> = names.map(Option::unwrap_or_default).collect();
        let above = above(&names);
        let location_id = places.into_iter().skip(above).collect();
        let label = thread.map(|thread| Label { key: self.text("thread"), str: self.text(thread) });
        let label = label.into_iter().collect();
        self.profile.sample.push(Sample { location_id, value: values.to_vec(), label });
    }

    fn text(&mut self, text: &str) -> i64 {
        if let Some(place) = self.texts.get(text) {
            return *place;
        }
        let place = self.profile.string_table.len() as i64;
        self.profile.string_table.push(text.to_owned());
        self.texts.insert(text.to_owned(), place);
        place
    }

    fn location(&mut self, at: usize) -> u64 {
        if let Some(id) = self.locations.get(&at) {
            return *id;
        }
        let mut found = Vec::new();
        backtrace::resolve(at as *mut std::ffi::c_void, |symbol| {
            let name = symbol.name().map(|name| format!("{name:#}"));
            let file = symbol.filename().map(|file| file.display().to_string());
            found.push((name, file, symbol.lineno().unwrap_or(0)));
        });
        if found.is_empty() {
            found.push((None, None, 0));
        }
        let mut line = Vec::with_capacity(found.len());
        for (name, file, number) in found {
            let name = self.text(name.as_deref().unwrap_or("?"));
            let filename = self.text(file.as_deref().unwrap_or_default());
            let next = self.profile.function.len() as u64 + 1;
            let function_id = *self.functions.entry((name, filename)).or_insert(next);
            if function_id == next {
                self.profile.function.push(Function { id: next, name, filename });
            }
            line.push(Line { function_id, line: i64::from(number) });
        }
        let id = self.profile.location.len() as u64 + 1;
        self.profile.location.push(Location { id, address: at as u64, line });
        self.locations.insert(at, id);
        id
    }

    /// Of a location, those that were inlined first.
    fn names(&self, location: u64) -> impl DoubleEndedIterator<Item = &str> {
        let lines = &self.profile.location[location as usize - 1].line;
        lines.iter().map(|line| {
            let function = &self.profile.function[line.function_id as usize - 1];
            self.profile.string_table[function.name as usize].as_str()
        })
    }

    pub(super) fn encoded(&self) -> Vec<u8> {
        self.profile.encode_to_vec()
    }

    /// A line for each stack, the outermost function first, with one of its values.
    pub(super) fn folded(&self) -> String {
        let mut lines: BTreeMap<String, i64> = BTreeMap::new();
        for sample in &self.profile.sample {
            let mut names: Vec<&str> = Vec::new();
            for label in &sample.label {
                names.push(&self.profile.string_table[label.str as usize]);
            }
            let places = sample.location_id.iter().rev();
            names.extend(places.flat_map(|id| self.names(*id).rev()));
            let value = sample.value.get(FOLDED).copied().unwrap_or_default();
            *lines.entry(names.join(";").replace('\n', " ")).or_default() += value;
        }
        let mut text = String::new();
        for (line, value) in lines.into_iter().filter(|(_, value)| *value != 0) {
            let _ = writeln!(text, "{line} {value}");
        }
        text
    }

    /// Of a value, by its place: of all stacks that a function with such a name is in.
    #[cfg(test)]
    pub(super) fn total(&self, function: &str, value: usize) -> i64 {
        let has = |sample: &&Sample| {
            let mut names = sample.location_id.iter().flat_map(|id| self.names(*id));
            names.any(|name| name.ends_with(&format!("::{function}")))
        };
        self.profile.sample.iter().filter(has).map(|sample| sample.value[value]).sum()
    }
}
