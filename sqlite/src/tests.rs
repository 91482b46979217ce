use super::initialize;
use rusqlite::{Connection, Error, ErrorCode};

fn memory() -> Connection {
    initialize().unwrap();
    Connection::open_in_memory().unwrap()
}

#[test]
fn a_database_in_memory_works() {
    let database = memory();
    database.execute_batch("create table t(a integer primary key, b text)").unwrap();
    for (a, b) in [(1, "one"), (2, "two"), (3, "three")] {
        database.execute("insert into t values(?1, ?2)", (a, b)).unwrap();
    }
    let sorted: String = database
        .query_row("select group_concat(b) from (select b from t order by b)", [], |row| row.get(0))
        .unwrap();
    assert_eq!(sorted, "one,three,two");
}

#[test]
fn there_are_no_files() {
    initialize().unwrap();
    let error = Connection::open("/tmp/file").unwrap_err();
    assert_eq!(error.sqlite_error_code(), Some(ErrorCode::CannotOpen));
    let database = memory();
    let attached = database.execute("attach '/tmp/file' as other", []);
    assert!(matches!(attached, Err(Error::SqliteFailure(..))));
}

#[test]
fn time_and_chance_are_there() {
    let database = memory();
    let read = |sql: &str| database.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    let unix = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let now = i64::try_from(unix.as_secs()).unwrap();
    assert!((now..now + 60).contains(&read("select unixepoch()")));
    assert_ne!(read("select random()"), read("select random()"));
}

#[test]
fn threads_take_turns() {
    initialize().unwrap();
    let shared = "file:shared?mode=memory&cache=shared";
    let database = Connection::open(shared).unwrap();
    database.execute_batch("create table t(a); insert into t values(0)").unwrap();
    let count = 200;
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let own = Connection::open(shared).unwrap();
                for _ in 0..count {
                    while own.execute("update t set a = a + 1", []).is_err() {
                        std::thread::yield_now(); // The table is locked by another.
                    }
                }
            });
        }
    });
    let sum: i64 = database.query_row("select a from t", [], |row| row.get(0)).unwrap();
    assert_eq!(sum, 4 * count);
}
