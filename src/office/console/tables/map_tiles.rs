//! Tiles of a map from an MBTiles file (specification 1.3), read-only.
//!
//! The file comes from elsewhere: it may hold a query without end in place of a table. Views are
//! refused, and every read ends after two seconds.
#![expect(clippy::disallowed_methods, reason = "shell: reads a clock")]

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags, OptionalExtension as _, params};
use serde::Serialize;

use super::{BUSY_TIMEOUT, Result};
use crate::office::console::error::ConsoleError;

/// Zoom levels at most: pixels of 4 cm.
const ZOOM_MAX: u8 = 22;
/// Bytes of a tile at most: one of 512 pixels, as PNG, has 300 KiB.
const TILE_MAX: i64 = 1 << 20;
/// Bytes of a value of the metadata that is read.
const VALUE_MAX: usize = 256;
/// Time of a read at most, that of all checks at the start, too: an index finds a tile within
/// milliseconds.
const READ_TIMEOUT: Duration = Duration::from_secs(2);
/// Steps of SQLite between two looks at the clock: some 50 µs.
const CLOCK_STEPS: i32 = 1_000;
/// What Web Mercator shows: west, south, east, north.
const WORLD: [f64; 4] = [-180.0, -85.051_128, 180.0, 85.051_128];

/// What a page must know of the map.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct MapExtent {
    /// Smallest zoom level.
    pub min_zoom: u8,
    /// Largest zoom level.
    pub max_zoom: u8,
    /// West, south, east, north, degrees.
    pub bounds: [f64; 4],
}

/// A tile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tile {
    /// Its content type, by its first bytes.
    pub media_type: &'static str,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// An open file. One tile is read at a time.
pub struct MapTiles {
    db: Mutex<Connection>,
    extent: MapExtent,
}

impl MapTiles {
    /// Opens a file that the configuration names.
    ///
    /// # Errors
    /// It cannot be read, is no MBTiles file, or has no tiles of pictures.
    pub fn open(path: &Path) -> Result<MapTiles> {
        let bad = |what: &str| ConsoleError::Invalid(format!("{}: {what}", path.display()));
        if !path.is_file() {
            return Err(bad("there is no such file"));
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(path, flags)?;
        db.busy_timeout(BUSY_TIMEOUT)?;
        db.execute_batch(
            "PRAGMA cache_size = -1024; PRAGMA query_only = ON; PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;",
        )
        .map_err(|error| bad(&format!("it is no MBTiles file: {error}")))?;
        let checked = within(&db, READ_TIMEOUT, |db| {
            if !are_tables(db)? {
                return Ok(Err(
                    "`tiles` or `metadata` is no table; copy the file with its views made tables",
                ));
            }
            let Some(extent) = extent(db)? else { return Ok(Err("it has no tiles")) };
            match has_pictures(db, extent.max_zoom)? {
                true => Ok(Ok(extent)),
                false => Ok(Err("its tiles are neither PNG, JPEG nor WebP")),
            }
        });
        let checked = checked.map_err(|error| bad(&format!("it is no MBTiles file: {error}")))?;
        let extent = checked.map_err(bad)?;
        Ok(MapTiles { db: Mutex::new(db), extent })
    }

    /// Zoom levels and bounds.
    pub fn extent(&self) -> MapExtent {
        self.extent
    }

    /// The tile in column `x` from the west and row `y` from the north; `None` where there is none,
    /// or none of a picture.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn tile(&self, zoom: u8, x: u32, y: u32) -> Result<Option<Tile>> {
        if zoom > ZOOM_MAX || x >> zoom != 0 || y >> zoom != 0 {
            return Ok(None);
        }
        // Rows of the file count from the south.
        let row = (1_u32 << zoom) - 1 - y;
        let query = "SELECT tile_data FROM tiles WHERE zoom_level = ?1 AND tile_column = ?2 AND tile_row = ?3 AND length(tile_data) <= ?4";
        let bytes: Option<Vec<u8>> = within(&self.lock(), READ_TIMEOUT, |db| {
            let mut query = db.prepare_cached(query)?;
            query.query_row(params![zoom, x, row, TILE_MAX], |row| row.get(0)).optional()
        })?;
        Ok(bytes.and_then(|bytes| Some(Tile { media_type: media_type(&bytes)?, bytes })))
    }

    /// The connection; it is whole after a panic, as nothing is written.
    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.db.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs `work`; its statements are interrupted after `timeout`.
fn within<T>(
    db: &Connection,
    timeout: Duration,
    work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    let started = Instant::now();
    db.progress_handler(CLOCK_STEPS, Some(move || started.elapsed() > timeout));
    let done = work(db);
    db.progress_handler(0, None::<fn() -> bool>);
    done
}

/// Whether both are tables with rows of their own, no view and no virtual table.
fn are_tables(db: &Connection) -> rusqlite::Result<bool> {
    let query = "SELECT count(*) FROM sqlite_schema WHERE lower(name) IN ('tiles', 'metadata') AND type = 'table' AND rootpage > 0";
    Ok(db.query_row(query, [], |row| row.get::<_, i64>(0))? == 2)
}

/// Whether one of some tiles is a picture.
fn has_pictures(db: &Connection, zoom: u8) -> rusqlite::Result<bool> {
    let mut query = db.prepare(
        "SELECT tile_data FROM tiles WHERE zoom_level = ?1 AND length(tile_data) <= ?2 LIMIT 16",
    )?;
    let mut rows = query.query(params![zoom, TILE_MAX])?;
    while let Some(row) = rows.next()? {
        let bytes: Vec<u8> = row.get(0)?;
        if media_type(&bytes).is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The content type of a picture; a browser is not to guess it.
fn media_type(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Some("image/png"),
        [0xff, 0xd8, 0xff, ..] => Some("image/jpeg"),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some("image/webp"),
        _ => None,
    }
}

fn extent(db: &Connection) -> rusqlite::Result<Option<MapExtent>> {
    let zooms: (Option<u8>, Option<u8>) = db.query_row(
        // Two queries: each ends at its first row of the index.
        "SELECT (SELECT min(zoom_level) FROM tiles WHERE zoom_level BETWEEN 0 AND ?1),
         (SELECT max(zoom_level) FROM tiles WHERE zoom_level BETWEEN 0 AND ?1)",
        [ZOOM_MAX],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    let (Some(min_zoom), Some(max_zoom)) = zooms else { return Ok(None) };
    let mut query = db.prepare("SELECT value FROM metadata WHERE name = 'bounds'")?;
    let text: Option<String> = query.query_row([], |row| row.get(0)).optional()?;
    let bounds = text.filter(|text| text.len() <= VALUE_MAX).and_then(|text| bounds(&text));
    Ok(Some(MapExtent { min_zoom, max_zoom, bounds: bounds.unwrap_or(WORLD) }))
}

/// Four numbers that bound a part of the world.
fn bounds(text: &str) -> Option<[f64; 4]> {
    let numbers: Vec<f64> =
        text.split(',').map(|part| part.trim().parse().ok()).collect::<Option<_>>()?;
    let bounds: [f64; 4] = numbers.try_into().ok()?;
    let [west, south, east, north] = bounds;
    let is_inside = west >= WORLD[0] && south >= -90.0 && east <= WORLD[2] && north <= 90.0;
    (west < east && south < north && is_inside)
        .then(|| [west, south.max(WORLD[1]), east, north.min(WORLD[3])])
}

/// An MBTiles file with these tiles: zoom, column, row from the north, bytes.
#[cfg(test)]
pub(crate) fn write_test_file(path: &Path, bounds: &str, tiles: &[(u8, u32, u32, &[u8])]) {
    let db = Connection::open(path).unwrap();
    db.execute_batch(
        "CREATE TABLE metadata (name TEXT, value TEXT);
         CREATE TABLE tiles (zoom_level INTEGER, tile_column INTEGER, tile_row INTEGER, tile_data BLOB);
         CREATE UNIQUE INDEX tile_index ON tiles (zoom_level, tile_column, tile_row);",
    )
    .unwrap();
    db.execute("INSERT INTO metadata VALUES ('bounds', ?1)", [bounds]).unwrap();
    for (zoom, x, y, bytes) in tiles {
        let row = (1_u32 << zoom) - 1 - y;
        db.execute("INSERT INTO tiles VALUES (?1, ?2, ?3, ?4)", params![zoom, x, row, bytes])
            .unwrap();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PNG: &[u8] = b"\x89PNG\r\n\x1a\nrest";

    #[test]
    fn tiles_are_found_by_row_from_the_north() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("map.mbtiles");
        let large = [PNG, &vec![0; TILE_MAX as usize][..]].concat();
        let tiles: [(u8, u32, u32, &[u8]); 4] =
            [(1, 0, 1, PNG), (3, 2, 5, b"\xff\xd8\xff"), (3, 0, 0, b"<svg/>"), (3, 0, 1, &large)];
        write_test_file(&path, "105.1, 20.5,105.3,20.7", &tiles);
        let before = std::fs::read(&path).unwrap();
        let map = MapTiles::open(&path).unwrap();
        let expected = MapExtent { min_zoom: 1, max_zoom: 3, bounds: [105.1, 20.5, 105.3, 20.7] };
        assert_eq!(map.extent(), expected);
        assert_eq!(map.tile(1, 0, 1).unwrap().unwrap().bytes, PNG);
        assert_eq!(map.tile(3, 2, 5).unwrap().unwrap().media_type, "image/jpeg");
        for (zoom, x, y) in
            [(1, 0, 0), (3, 0, 0), (3, 0, 1), (1, 2, 1), (1, 0, 2), (23, 0, 0), (40, 1, 1)]
        {
            assert_eq!(map.tile(zoom, x, y).unwrap(), None, "{zoom}/{x}/{y}");
        }
        assert_eq!(std::fs::read(&path).unwrap(), before, "nothing is written");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is made beside it");
    }

    #[test]
    fn a_file_that_is_no_map_is_refused_with_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("text"), "no database at all, and long enough to be read as one")
            .unwrap();
        Connection::open(path("other")).unwrap().execute_batch("CREATE TABLE x (y)").unwrap();
        let made = |name: &str, sql: &str| {
            Connection::open(path(name)).unwrap().execute_batch(sql).unwrap();
        };
        let endless = "WITH RECURSIVE n(v) AS (SELECT 0 UNION ALL SELECT v + 1 FROM n) SELECT";
        made(
            "view",
            &format!(
                "CREATE TABLE metadata (name TEXT, value TEXT); CREATE VIEW tiles AS {endless} 30 AS zoom_level, v AS tile_column, v AS tile_row, x'00' AS tile_data FROM n"
            ),
        );
        write_test_file(&path("meta"), "", &[(0, 0, 0, PNG)]);
        made(
            "meta",
            &format!(
                "DROP TABLE metadata; CREATE VIEW metadata AS {endless} 'x' AS name, v AS value FROM n"
            ),
        );
        write_test_file(&path("empty"), "", &[]);
        write_test_file(&path("vector"), "", &[(0, 0, 0, b"\x1f\x8b\x08pbf")]);
        for (name, says) in [
            ("text", "no MBTiles file"),
            ("other", "is no table"),
            ("view", "is no table"),
            ("meta", "is no table"),
            ("empty", "has no tiles"),
            ("vector", "neither PNG"),
            ("gone", "no such file"),
        ] {
            let error = MapTiles::open(&path(name)).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains(says), "{name}: {error}");
        }
        assert!(MapTiles::open(dir.path()).is_err());
    }

    #[test]
    fn a_read_without_end_is_interrupted() {
        let db = Connection::open_in_memory().unwrap();
        let endless = "WITH RECURSIVE n(v) AS (SELECT 0 UNION ALL SELECT v + 1 FROM n) SELECT count(*) FROM n";
        let ask = |query: &'static str| {
            let timeout = Duration::from_millis(20);
            within(&db, timeout, |db| db.query_row(query, [], |row| row.get::<_, i64>(0)))
        };
        assert!(ask(endless).is_err());
        assert_eq!(ask("SELECT 7").unwrap(), 7);
    }

    #[test]
    fn bounds_that_are_none_show_the_world() {
        assert_eq!(bounds("-180,-90,180,90"), Some(WORLD));
        for text in ["", "1,2,3", "1,2,3,4,5", "3,2,1,4", "nan,0,1,1", "a,b,c,d", "0,0,181,1"] {
            assert_eq!(bounds(text), None, "{text}");
        }
    }
}
