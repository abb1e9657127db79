//! Avro object container files of records with their places: any Avro reader opens them.
//!
//! Each file is of one schema of bodies. A record of it has the body, or null for a tombstone, beside
//! offset, time, key and headers.

use super::manifest::{Filed, hex};
use crate::moving::{Moved, Named, bodies, decode, encode};
use almanac_schemas::files::{ALL, SchemaFile};
use anyhow::{Context, bail};
use apache_avro::{
    Codec, DeflateSettings, Reader, Schema, Writer, types::Value, writer::datum::GenericDatumWriter,
};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::{
    cell::RefCell,
    fs::File,
    io::{BufReader, BufWriter, Read, Write},
    path::Path,
    rc::Rc,
    sync::OnceLock,
};

/// Records of tombstones have no body.
const TOMBSTONES: &str = "tombstones";

/// A schema that bodies may have, and that of the records around them.
pub(crate) struct Form {
    /// `None` for tombstones.
    pub(crate) file: Option<&'static SchemaFile>,
    record: Schema,
}

/// All that there are.
fn forms() -> &'static [Form] {
    static FORMS: OnceLock<Vec<Form>> = OnceLock::new();
    FORMS.get_or_init(|| {
        let files = ALL.iter().map(Some).chain([None]);
        files.filter_map(Form::of).collect()
    })
}

impl Form {
    fn of(file: Option<&'static SchemaFile>) -> Option<Self> {
        let body = match file {
            Some(file) => serde_json::from_str(file.text).ok()?,
            None => json!("null"),
        };
        let bodies = if file.is_some() { json!(["null", body]) } else { json!("null") };
        let header = json!({
            "type": "record", "name": "Header",
            "fields": [{"name": "name", "type": "string"}, {"name": "value", "type": "bytes"}],
        });
        let record = json!({
            "type": "record", "name": "Moved", "namespace": "almanac.export",
            "doc": "A record of a topic, with its place there.",
            "fields": [
                {"name": "partition", "type": "int"},
                {"name": "offset", "type": "long"},
                {"name": "timestamp", "type": {"type": "long", "logicalType": "timestamp-millis"}},
                {"name": "key", "type": "bytes"},
                {"name": "headers", "type": {"type": "array", "items": header}},
                {"name": "body", "type": bodies, "doc": "Null for a tombstone."},
            ],
        });
        Some(Self { file, record: Schema::parse(&record).ok()? })
    }

    /// Of what a record says of its body.
    pub(crate) fn named(named: Option<&Named>) -> anyhow::Result<&'static Self> {
        // Before the first block is read, whoever reads it.
        bodies::bound();
        let is_it = |form: &&Form| form.file.map(Named::of).as_ref() == named;
        forms().iter().find(is_it).with_context(|| {
            let (record, version) =
                named.map_or((TOMBSTONES, 0), |named| (&named.record, named.version));
            format!("this almanac does not know version {version} of {record}; take a newer one")
        })
    }

    /// How files of it are named.
    pub(crate) fn name(&self) -> String {
        match self.file {
            Some(file) => format!("{}.v{}", file.record, file.version),
            None => TOMBSTONES.to_owned(),
        }
    }

    /// As it stood in the topic, behind the id of its schema.
    pub(crate) fn write_body(&self, value: Value) -> anyhow::Result<Option<Vec<u8>>> {
        let Some(file) = self.file else { return Ok(None) };
        let schema = bodies::schema(file).map_err(anyhow::Error::msg)?;
        let writer = GenericDatumWriter::builder(schema).build()?;
        Ok(Some(writer.write_value_to_vec(value)?))
    }
}

/// A file that is being written.
pub(crate) struct Container {
    form: &'static Form,
    writer: Writer<'static, BufWriter<File>>,
}

impl Container {
    pub(crate) fn create(path: &Path, form: &'static Form) -> anyhow::Result<Self> {
        let file =
            File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
        let codec = Codec::Deflate(DeflateSettings::default());
        let writer = Writer::with_codec(&form.record, BufWriter::new(file), codec)?;
        Ok(Self { form, writer })
    }

    pub(crate) fn append(&mut self, partition: u32, moved: &Moved) -> anyhow::Result<()> {
        let record = record(self.form, partition, moved)?;
        self.writer.append_value(record)?;
        Ok(())
    }

    /// On return the file is on the disk.
    pub(crate) fn finish(self) -> anyhow::Result<()> {
        let mut file = self.writer.into_inner()?;
        file.flush()?;
        file.get_ref().sync_all()?;
        Ok(())
    }
}

fn record(form: &Form, partition: u32, moved: &Moved) -> anyhow::Result<Value> {
    let bytes = |what: &str, text: &str| decode(what, text).map_err(anyhow::Error::msg);
    let mut headers = Vec::new();
    for (name, value) in &moved.headers {
        let value = Value::Bytes(bytes("a header", value)?);
        headers.push(Value::Record(vec![
            ("name".to_owned(), Value::String(name.clone())),
            ("value".to_owned(), value),
        ]));
    }
    let body = match (&moved.body, form.file) {
        (Some(body), Some(file)) => {
            let value = bodies::read(file, &bytes("the body", body)?);
            Value::Union(1, Box::new(value.map_err(anyhow::Error::msg)?))
        }
        (None, Some(_)) => Value::Union(0, Box::new(Value::Null)),
        _ => Value::Null,
    };
    Ok(Value::Record(vec![
        ("partition".to_owned(), Value::Int(i32::try_from(partition)?)),
        ("offset".to_owned(), Value::Long(i64::try_from(moved.offset)?)),
        ("timestamp".to_owned(), Value::TimestampMillis(moved.timestamp)),
        ("key".to_owned(), Value::Bytes(bytes("the key", &moved.key)?)),
        ("headers".to_owned(), Value::Array(headers)),
        ("body".to_owned(), body),
    ]))
}

/// A record of a file, with its body as a value.
pub(crate) struct Unpacked {
    pub(crate) offset: u64,
    timestamp: i64,
    pub(crate) key: Vec<u8>,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    pub(crate) body: Option<Value>,
}

impl Unpacked {
    fn of(value: Value, partition: u32) -> anyhow::Result<Self> {
        let Value::Record(fields) = value else { bail!("it is no record") };
        let mut fields = fields.into_iter().map(|(_, value)| value);
        let mut next = || fields.next().unwrap_or(Value::Null);
        let (of_partition, offset, timestamp, key) = (next(), next(), next(), next());
        let (headers, body) = (next(), next());
        let (Value::Int(found), Value::Long(offset), Value::Bytes(key), Value::Array(all)) =
            (of_partition, offset, key, headers)
        else {
            bail!("its place is none");
        };
        let timestamp = match timestamp {
            Value::TimestampMillis(millis) | Value::Long(millis) => millis,
            _ => bail!("its time is none"),
        };
        if u32::try_from(found) != Ok(partition) {
            bail!("it is of partition {found}, in a file of partition {partition}");
        }
        let mut headers = Vec::with_capacity(all.len());
        for header in all {
            let Value::Record(fields) = header else { bail!("a header is none") };
            match <[_; 2]>::try_from(fields) {
                Ok([(_, Value::String(name)), (_, Value::Bytes(value))]) => {
                    headers.push((name, value));
                }
                _ => bail!("a header is none"),
            }
        }
        let body = match body {
            Value::Union(_, body) => Some(*body).filter(|body| *body != Value::Null),
            _ => None,
        };
        let offset = u64::try_from(offset).context("its offset is negative")?;
        Ok(Self { offset, timestamp, key, headers, body })
    }

    /// As it travels.
    pub(crate) fn pack(self, form: &Form) -> anyhow::Result<Moved> {
        let body = match self.body {
            Some(value) => form.write_body(value)?,
            None => None,
        };
        Ok(Moved {
            offset: self.offset,
            timestamp: self.timestamp,
            key: encode(&self.key),
            headers: self
                .headers
                .iter()
                .map(|(name, value)| (name.clone(), encode(value)))
                .collect(),
            schema: body.as_ref().and(form.file).map(Named::of),
            body: body.as_deref().map(encode),
        })
    }
}

/// Bytes that pass are added to a digest.
struct Hashed {
    inner: BufReader<File>,
    hash: Rc<RefCell<Sha256>>,
}

impl Read for Hashed {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hash.borrow_mut().update(&buffer[..read]);
        Ok(read)
    }
}

/// A file that is being read, held against what the manifest says of it.
pub(crate) struct Unpacking {
    pub(crate) form: &'static Form,
    filed: Filed,
    reader: Reader<'static, Hashed>,
    hash: Rc<RefCell<Sha256>>,
    read: u64,
    last: Option<u64>,
}

impl Unpacking {
    pub(crate) fn open(folder: &Path, filed: &Filed) -> anyhow::Result<Self> {
        let form = Form::named(filed.schema.as_ref()).with_context(|| filed.path.clone())?;
        let path = filed.within(folder)?;
        let file = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
        let hash = Rc::new(RefCell::new(Sha256::new()));
        let hashed = Hashed { inner: BufReader::new(file), hash: hash.clone() };
        let reader = Reader::new(hashed)
            .with_context(|| format!("{} is no Avro object container file", path.display()))?;
        if reader.writer_schema() != &form.record {
            bail!("{} does not hold {}, as its manifest says", path.display(), form.name());
        }
        Ok(Self { form, filed: filed.clone(), reader, hash, read: 0, last: None })
    }

    /// The next record; at the end the file must have been what the manifest says.
    pub(crate) fn next(&mut self) -> anyhow::Result<Option<Unpacked>> {
        let (path, number) = (self.filed.path.clone(), self.read);
        let Some(value) = self.reader.next() else {
            self.finish().with_context(|| path)?;
            return Ok(None);
        };
        let one = value.map_err(anyhow::Error::from);
        let one = one.and_then(|value| Unpacked::of(value, self.filed.partition));
        let one = one.with_context(|| format!("{path}, record {number}"))?;
        if self.last.is_some_and(|last| last >= one.offset) {
            bail!(
                "{path}, record {number}: offset {} does not come behind the one before",
                one.offset
            );
        }
        if self.read == 0 && one.offset != self.filed.first {
            bail!(
                "{path}, record {number}: it begins at offset {}, not {}",
                one.offset,
                self.filed.first
            );
        }
        (self.read, self.last) = (self.read + 1, Some(one.offset));
        Ok(Some(one))
    }

    fn finish(&mut self) -> anyhow::Result<()> {
        if self.read != self.filed.records || self.last != Some(self.filed.last) {
            bail!("it holds {} records instead of {}", self.read, self.filed.records);
        }
        let sum = hex(&self.hash.borrow().clone().finalize());
        if sum != self.filed.sha256 {
            bail!("it changed while it was read: its SHA-256 is {sum}");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::moving::manifest::digest;

    fn named() -> Named {
        Named::of(SchemaFile::newest("almanac.ingest.FetchRequested").unwrap())
    }

    fn moved(offset: u64) -> Moved {
        Moved {
            offset,
            timestamp: 7,
            key: encode(b"k"),
            headers: vec![("ce_id".to_owned(), encode(b"1"))],
            schema: Some(named()),
            body: Some(encode(&[2, b'p', 8, 2, b'm'])),
        }
    }

    fn filed(folder: &Path, first: u64, last: u64, records: u64) -> Filed {
        let file = File::open(folder.join("f.avro")).unwrap();
        Filed {
            path: "f.avro".to_owned(),
            topic: "ingest.requests".to_owned(),
            partition: 3,
            segment: 0,
            schema: Some(named()),
            records,
            first,
            last,
            bytes: file.metadata().unwrap().len(),
            sha256: digest(file).unwrap(),
        }
    }

    fn write(folder: &Path, partition: u32, offsets: &[u64]) {
        let form = Form::named(Some(&named())).unwrap();
        let mut container = Container::create(&folder.join("f.avro"), form).unwrap();
        for offset in offsets {
            container.append(partition, &moved(*offset)).unwrap();
        }
        container.finish().unwrap();
    }

    fn read(folder: &Path, filed: &Filed) -> anyhow::Result<Vec<Moved>> {
        let mut unpacking = Unpacking::open(folder, filed)?;
        let mut all = Vec::new();
        while let Some(one) = unpacking.next()? {
            all.push(one.pack(unpacking.form)?);
        }
        Ok(all)
    }

    #[test]
    fn records_come_out_as_they_went_in() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), 3, &[4, 9]);
        let all = read(folder.path(), &filed(folder.path(), 4, 9, 2)).unwrap();
        assert_eq!(all, [moved(4), moved(9)]);
    }

    #[test]
    fn what_does_not_fit_is_named_by_file_and_record() {
        let folder = tempfile::tempdir().unwrap();
        let told = |filed: &Filed| format!("{:#}", read(folder.path(), filed).unwrap_err());
        write(folder.path(), 3, &[9, 4]);
        let order = told(&filed(folder.path(), 9, 4, 2));
        assert!(order.contains("f.avro, record 1: offset 4 does not come behind"), "{order}");
        write(folder.path(), 2, &[4, 9]);
        let partition = told(&filed(folder.path(), 4, 9, 2));
        assert!(partition.contains("f.avro, record 0: it is of partition 2"), "{partition}");
        write(folder.path(), 3, &[4, 9]);
        let count = told(&filed(folder.path(), 4, 9, 3));
        assert!(count.contains("it holds 2 records instead of 3"), "{count}");
        let changed = Filed { sha256: "00".to_owned(), ..filed(folder.path(), 4, 9, 2) };
        assert!(told(&changed).contains("changed while it was read"));
        let text = std::fs::read(folder.path().join("f.avro")).unwrap();
        std::fs::write(folder.path().join("f.avro"), &text[..text.len() - 20]).unwrap();
        let cut = told(&filed(folder.path(), 4, 9, 2));
        assert!(cut.contains("f.avro, record 0"), "{cut}");
    }

    /// A block that says of itself to be small, and is hundreds of megabytes.
    #[test]
    fn a_bomb_does_not_go_off() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), 3, &[]);
        let path = folder.path().join("f.avro");
        let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
        let header = std::fs::read(&path).unwrap();
        let mut packed =
            flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
        let zeros = vec![0; 1 << 20];
        for _ in 0..256 {
            packed.write_all(&zeros).unwrap();
        }
        let packed = packed.finish().unwrap();
        assert!(packed.len() < 1 << 20);
        // One record, and the length of the block, as Avro writes numbers.
        let mut block = vec![2];
        let mut length = (packed.len() as u64) << 1;
        while length >= 0x80 {
            block.push(length as u8 | 0x80);
            length >>= 7;
        }
        block.push(length as u8);
        file.write_all(&block).unwrap();
        file.write_all(&packed).unwrap();
        file.write_all(&header[header.len() - 16..]).unwrap();
        let told = read(folder.path(), &filed(folder.path(), 0, 0, 1)).unwrap_err();
        let told = format!("{told:#}");
        assert!(told.contains("f.avro, record 0") && told.contains("Allocation limit"), "{told}");
    }
}
