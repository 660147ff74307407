//! Tiles of a map from an MBTiles file (specification 1.3), read-only.
//!
//! The file comes from elsewhere: it may hold a query without end in place of a table. `tiles` may be
//! a view over tables of the file, as map makers write it, without recursion and functions; every
//! read ends after two seconds, and after one that did none begins for half a minute.
#![expect(clippy::disallowed_methods, reason = "shell: reads a clock")]

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::limits::Limit;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension as _, params};
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
/// Time without reads after one that took too long: a hostile file occupies one request of a page for
/// two seconds in 32.
const PAUSE: Duration = Duration::from_secs(30);
/// Bytes of a value or row that SQLite makes at most: a view cannot fill the memory.
const LENGTH_MAX: i32 = 16 << 20;
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

struct MapFile {
    db: Connection,
    /// When a read that took too long ended.
    slow_at: Option<Instant>,
}

/// An open file. One tile is read at a time.
pub struct MapTiles {
    db: Mutex<MapFile>,
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
        db.set_limit(Limit::SQLITE_LIMIT_LENGTH, LENGTH_MAX)?;
        db.set_limit(Limit::SQLITE_LIMIT_ATTACHED, 0)?;
        let refused = guard(&db);
        let checked = within(&db, READ_TIMEOUT, |db| {
            if !are_there(db)? {
                return Ok(Err(
                    "`tiles` or `metadata` is no table; only `tiles` may be a view over tables of the file",
                ));
            }
            // Names a column that is missing, and what a view may not do.
            db.prepare("SELECT zoom_level, tile_column, tile_row, tile_data FROM tiles LIMIT 0")?;
            let Some(extent) = extent(db)? else { return Ok(Err("it has no tiles")) };
            match has_pictures(db, extent.max_zoom)? {
                true => Ok(Ok(extent)),
                false => Ok(Err("its tiles are neither PNG, JPEG nor WebP")),
            }
        });
        let checked = checked.map_err(|error| {
            let refused = refused.lock().unwrap_or_else(PoisonError::into_inner).take();
            match refused {
                Some(what) => bad(&format!("its view {what}; copy the file with `tiles` made a table")),
                None if is_interrupted(&error) => {
                    bad(&format!("reading it was interrupted after {READ_TIMEOUT:?}; it needs an index over zoom_level, tile_column and tile_row"))
                }
                None => bad(&format!("it is no MBTiles file: {error}")),
            }
        })?;
        let extent = checked.map_err(bad)?;
        Ok(MapTiles { db: Mutex::new(MapFile { db, slow_at: None }), extent })
    }

    /// Zoom levels and bounds.
    pub fn extent(&self) -> MapExtent {
        self.extent
    }

    /// The tile in column `x` from the west and row `y` from the north; `None` where there is none,
    /// or none of a picture.
    ///
    /// # Errors
    /// `Busy` when the read took too long, and for half a minute after it; the file cannot be read.
    pub fn tile(&self, zoom: u8, x: u32, y: u32) -> Result<Option<Tile>> {
        if zoom > ZOOM_MAX || x >> zoom != 0 || y >> zoom != 0 {
            return Ok(None);
        }
        // Rows of the file count from the south.
        let row = (1_u32 << zoom) - 1 - y;
        let query = "SELECT tile_data FROM tiles WHERE zoom_level = ?1 AND tile_column = ?2 AND tile_row = ?3 AND length(tile_data) <= ?4";
        let mut file = self.lock();
        if file.slow_at.is_some_and(|slow_at| slow_at.elapsed() < PAUSE) {
            return Err(ConsoleError::Busy);
        }
        let read = within(&file.db, READ_TIMEOUT, |db| {
            let mut query = db.prepare_cached(query)?;
            query.query_row(params![zoom, x, row, TILE_MAX], |row| row.get(0)).optional()
        });
        if read.as_ref().is_err_and(is_interrupted) {
            tracing::warn!(
                zoom,
                x,
                y,
                seconds = READ_TIMEOUT.as_secs(),
                pause = PAUSE.as_secs(),
                "tile of the map took too long; the map rests, then is read again: mend the file of web.tiles_file if this goes on"
            );
            file.slow_at = Some(Instant::now());
            return Err(ConsoleError::Busy);
        }
        let bytes: Option<Vec<u8>> = read?;
        Ok(bytes.and_then(|bytes| Some(Tile { media_type: media_type(&bytes)?, bytes })))
    }

    /// The connection; it is whole after a panic, as nothing is written.
    fn lock(&self) -> MutexGuard<'_, MapFile> {
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

fn is_interrupted(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted)
}

/// Lets queries read tables of the file, and views do nothing else; returns what was refused last.
fn guard(db: &Connection) -> Arc<Mutex<Option<String>>> {
    let refused = Arc::new(Mutex::new(None));
    let noted = Arc::clone(&refused);
    db.authorizer(Some(move |asked: AuthContext<'_>| match refusal(&asked) {
        None => Authorization::Allow,
        Some(what) => {
            *noted.lock().unwrap_or_else(PoisonError::into_inner) = Some(what);
            Authorization::Deny
        }
    }));
    refused
}

/// Why a step of a query is refused; our own queries use functions and read the schema.
fn refusal(asked: &AuthContext<'_>) -> Option<String> {
    let is_of_view = asked.accessor.is_some();
    match asked.action {
        AuthAction::Recursive => Some("is recursive".to_owned()),
        AuthAction::Function { function_name } if is_of_view => {
            Some(format!("calls the function {function_name}"))
        }
        AuthAction::Read { table_name, .. }
            if is_of_view
                && (table_name.starts_with("sqlite_") || table_name.starts_with("pragma_")) =>
        {
            Some(format!("reads {table_name}"))
        }
        AuthAction::Read { .. } | AuthAction::Select | AuthAction::Function { .. } => None,
        _ => Some("does more than read tables".to_owned()),
    }
}

/// Whether `metadata` is a table with rows of its own, no view and no virtual table, and `tiles` one,
/// or a view.
fn are_there(db: &Connection) -> rusqlite::Result<bool> {
    let query = "SELECT count(*) FROM sqlite_schema WHERE (lower(name) IN ('tiles', 'metadata') AND type = 'table' AND rootpage > 0)
        OR (lower(name) = 'tiles' AND type = 'view')";
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
            ("view", "is recursive"),
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
    fn tiles_in_a_view_over_images_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("map.mbtiles");
        let db = Connection::open(&path).unwrap();
        db.execute_batch(
            "CREATE TABLE metadata (name TEXT, value TEXT);
             CREATE TABLE map (zoom_level INTEGER, tile_column INTEGER, tile_row INTEGER, tile_id TEXT, grid_id TEXT);
             CREATE TABLE images (tile_data BLOB, tile_id TEXT);
             CREATE UNIQUE INDEX map_index ON map (zoom_level, tile_column, tile_row);
             CREATE UNIQUE INDEX images_id ON images (tile_id);
             CREATE VIEW tiles AS SELECT map.zoom_level AS zoom_level, map.tile_column AS tile_column,
                 map.tile_row AS tile_row, images.tile_data AS tile_data FROM map JOIN images ON images.tile_id = map.tile_id;
             INSERT INTO map VALUES (2, 1, 2, 'a', NULL), (4, 3, 5, 'a', NULL);",
        )
        .unwrap();
        db.execute("INSERT INTO images VALUES (?1, 'a')", [PNG]).unwrap();
        let before = std::fs::read(&path).unwrap();
        let map = MapTiles::open(&path).unwrap();
        assert_eq!((map.extent().min_zoom, map.extent().max_zoom), (2, 4));
        assert_eq!(map.tile(4, 3, 10).unwrap().unwrap().bytes, PNG);
        assert_eq!(map.tile(4, 3, 5).unwrap(), None);
        assert_eq!(std::fs::read(&path).unwrap(), before, "nothing is written");
    }

    #[test]
    fn a_hostile_view_is_refused_with_the_reason() {
        let dir = tempfile::tempdir().unwrap();
        let tile = "0 AS zoom_level, 0 AS tile_column, 0 AS tile_row";
        for (name, view, says) in [
            (
                "endless",
                format!("WITH RECURSIVE n(v) AS (SELECT 0 UNION ALL SELECT v + 1 FROM n) SELECT {tile}, x'00' AS tile_data FROM n"),
                "is recursive",
            ),
            (
                "product",
                "SELECT a.v AS zoom_level, 0 AS tile_column, 0 AS tile_row, x'00' AS tile_data FROM many a, many b, many c, many d WHERE a.v + b.v + c.v + d.v < 0"
                    .to_owned(),
                "interrupted",
            ),
            ("huge", format!("SELECT {tile}, zeroblob(900000000) AS tile_data"), "calls the function zeroblob"),
            ("columns", "SELECT 1 AS zoom_level, 2 AS tile_data".to_owned(), "tile_column"),
            ("schema", format!("SELECT {tile}, sql AS tile_data FROM sqlite_schema"), "reads sqlite_"),
            ("pragma", format!("SELECT {tile}, file AS tile_data FROM pragma_database_list"), "pragma"),
        ] {
            let path = dir.path().join(name);
            let db = Connection::open(&path).unwrap();
            db.execute_batch(&format!(
                "CREATE TABLE metadata (name TEXT, value TEXT); CREATE TABLE many (v INTEGER);
                 WITH RECURSIVE n(v) AS (SELECT 0 UNION ALL SELECT v + 1 FROM n WHERE v < 2000) INSERT INTO many SELECT v FROM n;
                 CREATE VIEW tiles AS {view};"
            ))
            .unwrap();
            let started = Instant::now();
            let error = MapTiles::open(&path).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains(says), "{name}: {error}");
            assert!(started.elapsed() < READ_TIMEOUT * 2, "{name}");
        }
    }

    #[test]
    fn a_tile_that_takes_too_long_pauses_the_map() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("map");
        let db = Connection::open(&path).unwrap();
        db.execute_batch(
            "CREATE TABLE metadata (name TEXT, value TEXT); CREATE TABLE many (v INTEGER); CREATE TABLE first (v INTEGER, data BLOB);
             WITH RECURSIVE n(v) AS (SELECT 0 UNION ALL SELECT v + 1 FROM n WHERE v < 2000) INSERT INTO many SELECT v FROM n;
             CREATE VIEW tiles AS SELECT v AS zoom_level, v AS tile_column, v AS tile_row, data AS tile_data FROM first
                 UNION ALL SELECT 1, a.v, b.v, x'' FROM many a, many b, many c, many d, many e WHERE c.v + d.v + e.v < 0;",
        )
        .unwrap();
        db.execute("INSERT INTO first VALUES (0, ?1)", [PNG]).unwrap();
        // As a file that was quick when it was opened.
        let guarded = Connection::open(&path).unwrap();
        let extent = MapExtent { min_zoom: 0, max_zoom: 1, bounds: WORLD };
        let map = MapTiles { db: Mutex::new(MapFile { db: guarded, slow_at: None }), extent };
        assert_eq!(map.tile(0, 0, 0).unwrap().unwrap().bytes, PNG);
        assert!(matches!(map.tile(1, 1, 1), Err(ConsoleError::Busy)));
        let started = Instant::now();
        assert!(matches!(map.tile(0, 0, 0), Err(ConsoleError::Busy)));
        assert!(started.elapsed() < READ_TIMEOUT / 2);
    }

    #[test]
    fn a_view_over_another_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("map"), dir.path().join("other"));
        write_test_file(&other, "", &[(0, 0, 0, PNG)]);
        write_test_file(&path, "", &[]);
        // SQLite makes no such view; a file that was written by hand may have one.
        let db = Connection::open(&path).unwrap();
        db.execute_batch(
            "DROP TABLE tiles; CREATE VIEW tiles AS SELECT * FROM metadata; PRAGMA writable_schema = ON;
             UPDATE sqlite_schema SET sql = 'CREATE VIEW tiles AS SELECT * FROM other.tiles' WHERE name = 'tiles';",
        )
        .unwrap();
        drop(db);
        let error = MapTiles::open(&path).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("other"), "{error}");
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
