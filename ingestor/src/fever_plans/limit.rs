//! A reader that knows its line and column, and refuses events that are too long: the XML reader
//! gathers a whole tag in memory before it hands it out.

use super::Place;
use std::io::{self, BufRead, Read};

pub(super) struct LimitedReader<R> {
    inner: R,
    limit: usize,
    since_event: usize,
    place: Place,
}

#[derive(Debug, thiserror::Error)]
#[error("a tag or text is too long")]
struct TooLong;

pub(super) fn is_too_long(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<TooLong>())
}

impl<R: BufRead> LimitedReader<R> {
    pub(super) fn new(inner: R, limit: usize) -> Self {
        Self { inner, limit, since_event: 0, place: Place { line: 1, column: 1 } }
    }

    /// Starts counting anew; returns where the next event begins.
    pub(super) fn begin_event(&mut self) -> Place {
        self.since_event = 0;
        self.place
    }
}

impl<R: BufRead> Read for LimitedReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let length = available.len().min(buffer.len());
        buffer[..length].copy_from_slice(&available[..length]);
        self.consume(length);
        Ok(length)
    }
}

impl<R: BufRead> BufRead for LimitedReader<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.since_event > self.limit {
            return Err(io::Error::other(TooLong));
        }
        self.inner.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.since_event += amount;
        // What is consumed was filled before, so this reads nothing.
        if let Ok(available) = self.inner.fill_buf() {
            let consumed = &available[..amount.min(available.len())];
            match memchr::memrchr(b'\n', consumed) {
                Some(last) => {
                    self.place.line += memchr::memchr_iter(b'\n', consumed).count() as u64;
                    self.place.column = (consumed.len() - last) as u64;
                }
                None => self.place.column += consumed.len() as u64,
            }
        }
        self.inner.consume(amount);
    }
}
