//! Which tables a projection has.

use crate::{parked, positions};
use almanac_read_store::{ReadStore, StoreResult, Table};
use std::fmt;

/// The tables that one projection folds from one topic or several. What is asked of it, its layout says.
pub trait Projected: Send + Sync + 'static {
    fn layout(&self) -> &Layout;

    fn name(&self) -> &'static str {
        self.layout().projection
    }

    /// Another version fills other tables.
    fn version(&self) -> u32 {
        self.edition().version
    }

    /// Which of its tables these are.
    fn edition(&self) -> Edition {
        self.layout().edition
    }

    /// The table with a row for each event of the first topic, numbered by key, where there is one.
    fn history(&self) -> Option<History<'_>> {
        None
    }

    /// Without the installation's prefix. Every partition of every topic is an input of its own, so a
    /// row must be fed by one of them only.
    fn topics(&self) -> &'static [&'static str] {
        self.layout().topics
    }
}

/// Where the events of each key stand, one a row.
#[derive(Clone, Copy)]
pub struct History<'a> {
    pub table: &'a Table,
    /// The partition of an event, by its key and number.
    pub bucket: fn(&str, u64) -> String,
}

/// What of a table readers keep in memory, and are told of when it changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Announced {
    Nothing,
    Partitions,
    Rows,
}

/// A table as its projection declares it.
#[derive(Clone, Debug)]
pub struct Declared {
    pub table: Table,
    /// What its keys hold, for people.
    pub keys: Keys,
    pub announced: Announced,
    /// Whether many events write the same into a row, so that one write is enough for as long as no
    /// other comes between. Nothing is ever deleted from such a table.
    pub is_repeated: bool,
    pub positions: RowPositions,
}

/// Where rows tell positions in the log. These are others in another installation that holds the same, so
/// that no digest may depend on them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RowPositions {
    #[default]
    Nowhere,
    /// The clustering key is one.
    Key,
    /// Members of the body with these names, wherever they stand in it.
    Body(&'static [&'static str]),
}

/// What the partition key and the clustering key of a table hold.
#[derive(Clone, Copy, Debug)]
pub struct Keys(pub &'static str, pub &'static str);

/// Version of a fold, and generation of tables within it: a rebuild fills a generation of its own beside
/// the one that is read. The first is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Edition {
    pub version: u32,
    pub generation: u32,
}

impl From<u32> for Edition {
    fn from(version: u32) -> Self {
        Self { version, generation: 0 }
    }
}

impl fmt::Display for Edition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.generation {
            0 => write!(f, "{}", self.version),
            generation => write!(f, "{}.{generation}", self.version),
        }
    }
}

/// All tables of one edition of a projection.
#[derive(Clone, Debug)]
pub struct Layout {
    projection: &'static str,
    edition: Edition,
    topics: &'static [&'static str],
    tables: Vec<Declared>,
}

impl Layout {
    /// Of a projection that folds these topics.
    pub fn new(
        projection: &'static str,
        edition: impl Into<Edition>,
        topics: &'static [&'static str],
    ) -> Self {
        Self { projection, edition: edition.into(), topics, tables: Vec::new() }
    }

    /// Declares a table.
    pub fn table(&mut self, name: &str, keys: Keys, announced: Announced) -> StoreResult<Table> {
        let table = Table::new(name, self.edition.version)?;
        let table = table.of_generation(self.edition.generation);
        let (is_repeated, positions) = (false, RowPositions::Nowhere);
        self.tables.push(Declared {
            table: table.clone(),
            keys,
            announced,
            is_repeated,
            positions,
        });
        Ok(table)
    }

    /// Declares a table whose rows tell positions.
    pub fn placed(
        &mut self,
        name: &str,
        keys: Keys,
        announced: Announced,
        positions: RowPositions,
    ) -> StoreResult<Table> {
        let table = self.table(name, keys, announced)?;
        if let Some(declared) = self.tables.last_mut() {
            declared.positions = positions;
        }
        Ok(table)
    }

    /// Declares a table into whose rows many events write the same.
    pub fn repeated(&mut self, name: &str, keys: Keys, announced: Announced) -> StoreResult<Table> {
        let table = self.table(name, keys, announced)?;
        if let Some(declared) = self.tables.last_mut() {
            declared.is_repeated = true;
        }
        Ok(table)
    }

    pub fn tables(&self) -> impl Iterator<Item = &Declared> {
        self.tables.iter()
    }

    fn find(&self, table: &Table) -> Option<&Declared> {
        self.tables.iter().find(|declared| declared.table == *table)
    }

    pub fn announced(&self, table: &Table) -> Announced {
        self.find(table).map_or(Announced::Nothing, |declared| declared.announced)
    }

    pub fn is_repeated(&self, table: &Table) -> bool {
        self.find(table).is_some_and(|declared| declared.is_repeated)
    }
}

/// Creates the tables of a projection, and those that all share.
pub async fn prepare(store: &dyn ReadStore, projection: &dyn Projected) -> StoreResult<()> {
    store.create_table(&positions::table()?).await?;
    store.create_table(&parked::table()?).await?;
    for declared in projection.layout().tables() {
        store.create_table(&declared.table).await?;
    }
    Ok(())
}
