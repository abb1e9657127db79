//! The schemas that bodies may have, read once.

use almanac_errors::chain;
use almanac_schemas::files::{ALL, SchemaFile};
use apache_avro::{Schema, reader::datum::GenericDatumReader, types::Value};
use std::sync::OnceLock;

/// What a decoder may allocate for one block of a file, or one body. Records are a megabyte at most; what
/// claims to be more was made up.
const MAX_BYTES: usize = 64 << 20;

/// Bounds every decoder of this process. The first who decodes settles it, so the program does this first.
pub(crate) fn bound() {
    apache_avro::util::max_allocation_bytes(MAX_BYTES);
}

/// That of a version of a record.
pub(crate) fn schema(file: &SchemaFile) -> Result<&'static Schema, String> {
    static SCHEMAS: OnceLock<Vec<Option<Schema>>> = OnceLock::new();
    let all = SCHEMAS.get_or_init(|| {
        bound();
        ALL.iter().map(|file| Schema::parse_str(file.text).ok()).collect()
    });
    let place = ALL.iter().position(|known| known == file);
    place
        .and_then(|place| all[place].as_ref())
        .ok_or_else(|| format!("{} is no schema", file.record))
}

/// The value of a body, all of it.
pub(crate) fn read(file: &SchemaFile, mut datum: &[u8]) -> Result<Value, String> {
    let schema = schema(file)?;
    let value = GenericDatumReader::builder(schema)
        .build()
        .and_then(|reader| reader.read_value(&mut datum))
        .map_err(|error| format!("its body is no {}: {}", file.record, chain(&error)))?;
    // To the library, a text that is cut off is a null.
    if !value.validate(schema) {
        return Err(format!("its body is no {}: it is cut off", file.record));
    }
    match datum.len() {
        0 => Ok(value),
        left => Err(format!("{left} bytes are left behind its body, a {}", file.record)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_read_whole_or_not_at_all() {
        let file = SchemaFile::newest("almanac.ingest.FetchRequested").unwrap();
        // Two texts, with a time between them.
        let datum = [2, b'p', 8, 2, b'm'];
        assert!(read(file, &datum).is_ok());
        assert!(read(file, &datum[..4]).is_err());
        assert!(read(file, &[&datum[..], &[0]].concat()).unwrap_err().contains("left behind"));
        // A text of four exabytes.
        let huge = [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
        assert!(read(file, &huge).is_err());
    }
}
