//! What a body leads to, spooled until the body has been read to its end: in memory while it is
//! small, in a temporary file beyond.

use std::{
    io::{self, BufReader, BufWriter, Read, Seek, Write},
    path::{Path, PathBuf},
};
use tempfile::SpooledTempFile;

const IN_MEMORY: usize = 8 << 20;

/// One step: an event with the state that goes with it, or something for quarantine.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Plan {
        id: [u8; 16],
        sequence: u64,
        /// Which of the plan events, by its place in the codec's list.
        kind: u8,
        event: Vec<u8>,
        state: Vec<u8>,
        entry: Vec<u8>,
    },
    Quarantine {
        record: Vec<u8>,
    },
}

pub(crate) struct Outbox {
    folder: PathBuf,
    writer: BufWriter<SpooledTempFile>,
    pub(crate) steps: u64,
}

impl Outbox {
    pub(crate) fn new(spool_dir: &Path) -> Self {
        let file = SpooledTempFile::new_in(IN_MEMORY, spool_dir);
        let writer = BufWriter::with_capacity(64 << 10, file);
        Self { folder: spool_dir.to_owned(), writer, steps: 0 }
    }

    pub(crate) fn push(&mut self, step: &Step) -> io::Result<()> {
        self.steps += 1;
        self.write(step).map_err(|error| {
            io::Error::new(error.kind(), format!("in {}: {error}", self.folder.display()))
        })
    }

    fn write(&mut self, step: &Step) -> io::Result<()> {
        match step {
            Step::Plan { id, sequence, kind, event, state, entry } => {
                self.writer.write_all(&[1, *kind])?;
                self.writer.write_all(id)?;
                self.writer.write_all(&sequence.to_le_bytes())?;
                for bytes in [event, state, entry] {
                    self.put(bytes)?;
                }
                Ok(())
            }
            Step::Quarantine { record } => {
                self.writer.write_all(&[2, 0])?;
                self.put(record)
            }
        }
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.writer.write_all(&(bytes.len() as u32).to_le_bytes())?;
        self.writer.write_all(bytes)
    }

    /// Reads the steps back in their order.
    pub(crate) fn into_steps(self) -> io::Result<Steps> {
        let mut file = self.writer.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.rewind()?;
        Ok(Steps { reader: BufReader::with_capacity(64 << 10, file), left: self.steps })
    }
}

pub(crate) struct Steps {
    reader: BufReader<SpooledTempFile>,
    left: u64,
}

impl Steps {
    pub(crate) fn next(&mut self) -> io::Result<Option<Step>> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let mut head = [0; 2];
        self.reader.read_exact(&mut head)?;
        if head[0] == 2 {
            return Ok(Some(Step::Quarantine { record: self.get()? }));
        }
        let mut id = [0; 16];
        self.reader.read_exact(&mut id)?;
        let mut sequence = [0; 8];
        self.reader.read_exact(&mut sequence)?;
        Ok(Some(Step::Plan {
            id,
            sequence: u64::from_le_bytes(sequence),
            kind: head[1],
            event: self.get()?,
            state: self.get()?,
            entry: self.get()?,
        }))
    }

    fn get(&mut self) -> io::Result<Vec<u8>> {
        let mut length = [0; 4];
        self.reader.read_exact(&mut length)?;
        let mut bytes = vec![0; u32::from_le_bytes(length) as usize];
        self.reader.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quarantine(bytes: usize) -> Step {
        Step::Quarantine { record: vec![7; bytes] }
    }

    #[test]
    fn what_does_not_fit_into_memory_goes_to_the_configured_folder() {
        let folder = tempfile::tempdir().unwrap();
        let mut outbox = Outbox::new(folder.path());
        outbox.push(&quarantine(IN_MEMORY + 1)).unwrap();
        outbox.push(&quarantine(3)).unwrap();
        let mut steps = outbox.into_steps().unwrap();
        assert_eq!(steps.next().unwrap(), Some(quarantine(IN_MEMORY + 1)));
        assert_eq!(steps.next().unwrap(), Some(quarantine(3)));
        assert_eq!(steps.next().unwrap(), None);

        let mut nowhere = Outbox::new(&folder.path().join("missing"));
        nowhere.push(&quarantine(3)).unwrap();
        let error = nowhere.push(&quarantine(IN_MEMORY + 1)).unwrap_err();
        assert!(error.to_string().contains("missing"), "{error}");
    }
}
