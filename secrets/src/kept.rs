//! A secret where it is kept: in the configuration, or in a file that somebody may change.

use crate::Secret;
use almanac_errors::chain;
use std::{
    fmt, io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

/// A secret as it is now. Clones share what they know.
#[derive(Clone)]
pub struct Kept(Arc<Inner>);

struct Inner {
    file: Option<PathBuf>,
    known: Mutex<Known>,
}

struct Known {
    secret: Secret,
    /// Whether it was said that the file cannot be read.
    is_told: bool,
}

impl Kept {
    /// Of a file, which has to be there.
    pub fn in_file(file: PathBuf) -> io::Result<Self> {
        let secret = read(&file)?;
        Ok(Self::of(Some(file), secret))
    }

    fn of(file: Option<PathBuf>, secret: Secret) -> Self {
        Self(Arc::new(Inner { file, known: Mutex::new(Known { secret, is_told: false }) }))
    }

    /// Reads the file again, if there is one: it is short, and asked for when a connection is made or a
    /// request is sent. One that is missing or empty is about to be written; the secret before it stands.
    pub fn now(&self) -> Secret {
        let mut known = self.0.known.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(file) = &self.0.file else { return known.secret.clone() };
        match read(file) {
            Ok(secret) if !secret.is_empty() => {
                if secret != known.secret {
                    tracing::info!(file = %file.display(), "a secret has changed");
                }
                *known = Known { secret, is_told: false };
            }
            Ok(_) => {}
            Err(error) if !known.is_told => {
                let file = file.display();
                tracing::warn!(%file, error = %chain(&error), "a secret cannot be read; the one before it is used");
                known.is_told = true;
            }
            Err(_) => {}
        }
        known.secret.clone()
    }

    /// Whether it can change.
    pub fn is_in_file(&self) -> bool {
        self.0.file.is_some()
    }
}

fn read(file: &PathBuf) -> io::Result<Secret> {
    Ok(std::fs::read_to_string(file)?.trim().into())
}

impl<T: Into<Secret>> From<T> for Kept {
    fn from(secret: T) -> Self {
        Self::of(None, secret.into())
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.file {
            Some(file) => write!(f, "what {} holds", file.display()),
            None => f.write_str(crate::MASK),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        assert!(Kept::in_file(file.clone()).is_err(), "it has to be there");
        std::fs::write(&file, "first\n").unwrap();
        let kept = Kept::in_file(file.clone()).unwrap();
        assert_eq!(kept.now().expose(), "first");
        std::fs::write(&file, "second").unwrap();
        assert_eq!(kept.clone().now().expose(), "second");
        for _ in 0..2 {
            std::fs::write(&file, "").unwrap();
            assert_eq!(kept.now().expose(), "second", "it is being written");
            std::fs::remove_file(&file).unwrap();
            assert_eq!(kept.now().expose(), "second");
        }
        std::fs::write(&file, "third").unwrap();
        assert_eq!(kept.now().expose(), "third");
        assert!(!format!("{kept:?}").contains("third"), "{kept:?}");
        let fixed = Kept::from("hunter2");
        assert_eq!((fixed.now().expose(), fixed.is_in_file()), ("hunter2", false));
        assert!(!format!("{fixed:?}").contains("hunter2"), "{fixed:?}");
    }
}
