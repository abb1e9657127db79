//! Why something failed, whatever said so.

use std::{error::Error, fmt, ops::Deref, sync::Arc};

/// The source of an error whose own sources have many types; clones share it. Words will do where nothing
/// else failed below: `"no answer".into()`.
///
/// It dereferences to the error, which can be downcast, and is none itself, so that nothing stands between
/// an error and its source.
#[derive(Clone)]
pub struct Cause(Arc<dyn Error + Send + Sync>);

impl<E: Into<Box<dyn Error + Send + Sync>>> From<E> for Cause {
    fn from(error: E) -> Self {
        Self(error.into().into())
    }
}

impl Deref for Cause {
    type Target = dyn Error + Send + Sync;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl fmt::Debug for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Without its own causes, as of every error.
impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An error that is words only, for whoever takes nothing but errors.
#[derive(Clone, Debug)]
pub struct Words(String);

impl<T: Into<String>> From<T> for Words {
    fn from(words: T) -> Self {
        Self(words.into())
    }
}

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Words {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[test]
    fn a_cause_keeps_the_type_and_the_source_of_an_error() {
        let inner = io::Error::new(io::ErrorKind::StorageFull, "disk full");
        let cause = Cause::from(io::Error::other(inner)).clone();
        assert!(cause.downcast_ref::<io::Error>().is_some());
        let words = Cause::from("no answer");
        assert_eq!((words.to_string(), words.source().is_none()), ("no answer".to_owned(), true));
    }
}
