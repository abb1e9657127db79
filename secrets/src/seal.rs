//! Secrets of users, encrypted so that they can be kept where many can read: AES-256-GCM under a key
//! in a file of the installation's own.

use openssl::{
    hash::MessageDigest,
    pkey::PKey,
    rand::rand_bytes,
    sha::sha256,
    sign::Signer,
    symm::{Cipher, decrypt_aead, encrypt_aead},
};
use std::{
    fmt,
    fs::{self, OpenOptions},
    io::{self, ErrorKind, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

const KEY: usize = 32;
const NONCE: usize = 12;
const TAG: usize = 16;
/// Of the key, so that another one is told from damage.
const FINGERPRINT: usize = 4;
/// First byte of what is sealed: the way it was sealed.
const VERSION: u8 = 1;

#[derive(Debug, thiserror::Error)]
pub enum SealError {
    #[error("cannot {action} the key file {}", file.display())]
    File { action: &'static str, file: PathBuf, source: io::Error },
    #[error("the key file {} must hold {KEY} bytes, not {bytes}", file.display())]
    BadKey { file: PathBuf, bytes: usize },
    #[error("it was sealed under another key: every process must have the same key file")]
    OtherKey,
    #[error("what is sealed is damaged")]
    Damaged,
    #[error("the cryptographic library failed")]
    Library(#[from] openssl::error::ErrorStack),
}

/// Seals secrets, and opens them again.
#[derive(Clone)]
pub struct SealingKey {
    key: [u8; KEY],
    fingerprint: [u8; FINGERPRINT],
}

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(crate::MASK)
    }
}

impl SealingKey {
    /// Makes the file on the first start. Of several processes that start together, one makes it for
    /// all.
    pub fn make(file: &Path) -> Result<(), SealError> {
        if file.exists() {
            return Ok(());
        }
        let mut key = [0; KEY];
        rand_bytes(&mut key)?;
        write_once(file, &key).map_err(|source| SealError::File {
            action: "write",
            file: file.to_owned(),
            source,
        })
    }

    pub fn load(file: &Path) -> Result<Self, SealError> {
        let error = |source| SealError::File { action: "read", file: file.to_owned(), source };
        let bytes = fs::read(file).map_err(error)?;
        let bad = || SealError::BadKey { file: file.to_owned(), bytes: bytes.len() };
        let key: [u8; KEY] = bytes.as_slice().try_into().map_err(|_| bad())?;
        let [a, b, c, d, ..] = sha256(&key);
        Ok(Self { key, fingerprint: [a, b, c, d] })
    }

    /// Seals a secret for a purpose: it is opened for that alone.
    pub fn seal(&self, secret: &[u8], purpose: &[u8]) -> Result<Vec<u8>, SealError> {
        let (mut nonce, mut tag) = ([0; NONCE], [0; TAG]);
        rand_bytes(&mut nonce)?;
        let cipher = Cipher::aes_256_gcm();
        let encrypted = encrypt_aead(cipher, &self.key, Some(&nonce), purpose, secret, &mut tag)?;
        Ok([&[VERSION], &self.fingerprint[..], &nonce, &tag, &encrypted].concat())
    }

    pub fn open(&self, sealed: &[u8], purpose: &[u8]) -> Result<Vec<u8>, SealError> {
        let (version, rest) = sealed.split_first().ok_or(SealError::Damaged)?;
        if *version != VERSION {
            return Err(SealError::Damaged);
        }
        let (fingerprint, rest) = rest.split_at_checked(FINGERPRINT).ok_or(SealError::Damaged)?;
        if fingerprint != self.fingerprint {
            return Err(SealError::OtherKey);
        }
        let (nonce, rest) = rest.split_at_checked(NONCE).ok_or(SealError::Damaged)?;
        let (tag, encrypted) = rest.split_at_checked(TAG).ok_or(SealError::Damaged)?;
        let cipher = Cipher::aes_256_gcm();
        decrypt_aead(cipher, &self.key, Some(nonce), purpose, encrypted, tag)
            .map_err(|_| SealError::Damaged)
    }

    /// Stands for a secret where two are compared and neither may be told.
    pub fn stand_in(&self, secret: &[u8]) -> Result<Vec<u8>, SealError> {
        let key = PKey::hmac(&self.key)?;
        let mut signer = Signer::new(MessageDigest::sha256(), &key)?;
        signer.update(secret)?;
        Ok(signer.sign_to_vec()?)
    }
}

/// Writes a file that nobody else on this machine may read, whole or not at all, and leaves one alone
/// that another process made meanwhile.
pub fn write_once(file: &Path, text: &[u8]) -> io::Result<()> {
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut unique = [0; 8];
    rand_bytes(&mut unique)?;
    let draft = file.with_extension(format!("{:016x}.new", u64::from_be_bytes(unique)));
    let mut opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    let written = opened.write_all(text).and_then(|()| opened.sync_all());
    // Unlike a rename, a link never replaces what another process made meanwhile. Not every
    // filesystem has links.
    let made = written.and_then(|()| match fs::hard_link(&draft, file) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(_) => fs::rename(&draft, file),
    });
    let _ = fs::remove_file(&draft);
    made
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn key(folder: &Path, name: &str) -> SealingKey {
        let file = folder.join(name);
        SealingKey::make(&file).unwrap();
        SealingKey::load(&file).unwrap()
    }

    #[test]
    fn what_is_sealed_is_opened_for_its_purpose_under_its_key() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (key(folder.path(), "deep/one"), key(folder.path(), "other"));
        let sealed = one.seal(b"hello", b"a").unwrap();
        assert_eq!(one.open(&sealed, b"a").unwrap(), b"hello");
        assert!(!sealed.windows(5).any(|part| part == b"hello"));
        assert_ne!(one.seal(b"hello", b"a").unwrap(), sealed, "never twice the same");
        assert!(matches!(one.open(&sealed, b"b"), Err(SealError::Damaged)));
        assert!(matches!(other.open(&sealed, b"a"), Err(SealError::OtherKey)));
        for at in 0..sealed.len() {
            let mut damaged = sealed.clone();
            damaged[at] ^= 1;
            assert!(one.open(&damaged, b"a").is_err(), "byte {at}");
            assert!(one.open(&sealed[..at], b"a").is_err(), "cut at {at}");
        }
        assert_eq!(one.stand_in(b"x").unwrap(), one.stand_in(b"x").unwrap());
        assert_ne!(one.stand_in(b"x").unwrap(), one.stand_in(b"y").unwrap());
        assert_ne!(one.stand_in(b"x").unwrap(), other.stand_in(b"x").unwrap());
        assert_eq!(format!("{one:?}"), crate::MASK);
    }

    #[test]
    fn the_key_is_made_once_and_for_nobody_else() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        SealingKey::make(&file).unwrap();
        let bytes = fs::read(&file).unwrap();
        SealingKey::make(&file).unwrap();
        write_once(&file, b"another").unwrap();
        assert_eq!(fs::read(&file).unwrap(), bytes);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no draft is left");
        fs::write(&file, b"short").unwrap();
        assert!(matches!(SealingKey::load(&file), Err(SealError::BadKey { bytes: 5, .. })));
    }
}
