//! An error and its causes as one line.

use std::{error::Error, fmt};

/// Bytes of a line that are shown at most. Some libraries repeat a whole query or document.
const SHOWN: usize = 4_000;

/// An error and its causes, joined by `: `. A cause that those before it told already is left out: errors of
/// other libraries may display their sources themselves.
#[derive(Clone, Copy)]
pub struct Chain<'a>(&'a (dyn Error + 'a));

pub fn chain<'a>(error: &'a (dyn Error + 'a)) -> Chain<'a> {
    Chain(error)
}

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut told = self.0.to_string();
        let mut cause = self.0.source();
        while let Some(error) = cause.filter(|_| told.len() <= SHOWN) {
            let text = error.to_string();
            if !told.contains(&text) {
                told = format!("{told}: {text}");
            }
            cause = error.source();
        }
        match told.len() > SHOWN {
            true => write!(f, "{}…", &told[..told.floor_char_boundary(SHOWN)]),
            false => f.write_str(&told),
        }
    }
}

impl fmt::Debug for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Failed(String, Option<Box<Failed>>);

    impl fmt::Display for Failed {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(&self.0)
        }
    }

    impl Error for Failed {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_deref().map(|cause| cause as _)
        }
    }

    fn of(texts: &[&str]) -> Failed {
        let cause = (texts.len() > 1).then(|| Box::new(of(&texts[1..])));
        Failed(texts[0].to_owned(), cause)
    }

    #[test]
    fn each_cause_is_told_once() {
        for (texts, told) in [
            (&["cannot write"] as &[&str], "cannot write"),
            (&["cannot write", "disk full", "code 28"], "cannot write: disk full: code 28"),
            (
                &["cannot write: disk full", "disk full", "code 28"],
                "cannot write: disk full: code 28",
            ),
            (&["cannot write", "cannot write"], "cannot write"),
        ] {
            assert_eq!(chain(&of(texts)).to_string(), told);
        }
    }

    #[test]
    fn a_line_is_bounded() {
        let long = "é".repeat(SHOWN);
        let links: Vec<String> = (0..100).map(|link| format!("{link}{long}")).collect();
        let links: Vec<&str> = links.iter().map(String::as_str).collect();
        for texts in [&links[..], &links[..1]] {
            let told = chain(&of(texts)).to_string();
            assert!(told.len() <= SHOWN + '…'.len_utf8() && told.ends_with('…'), "{}", told.len());
        }
    }
}
