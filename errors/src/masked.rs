//! Errors of libraries whose texts tell too much.

use std::{error::Error, fmt};

/// The texts of an error and of its causes, with what must not be told taken out of each. The error itself
/// is not kept: any text of it that is reached by `source` may be printed.
#[derive(Clone, Debug)]
pub struct Masked {
    text: String,
    source: Option<Box<Masked>>,
}

impl Masked {
    pub fn new(error: &dyn Error, mask: impl Fn(&str) -> String) -> Self {
        let mut causes = Vec::new();
        let mut next = error.source();
        while let Some(cause) = next {
            causes.push(mask(&cause.to_string()));
            next = cause.source();
        }
        let linked = |source, text| Some(Box::new(Self { text, source }));
        Self { text: mask(&error.to_string()), source: causes.into_iter().rfold(None, linked) }
    }
}

impl fmt::Display for Masked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error for Masked {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Cause, chain};

    #[derive(Debug, Clone)]
    struct Refused(Cause);

    impl fmt::Display for Refused {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("http://user:pw@host refuses")
        }
    }

    impl Error for Refused {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&*self.0)
        }
    }

    #[test]
    fn every_text_is_masked_however_it_is_printed() {
        let error = Refused(Refused("pw is wrong".into()).into());
        let masked = Masked::new(&error, |text| text.replace("pw", "*"));
        assert_eq!(chain(&masked).to_string(), "http://user:*@host refuses: * is wrong");
        assert!(!format!("{masked:?}").contains("pw"), "{masked:?}");
    }
}
