//! SQLite with a database in memory.
use crate::Pass;
use crate::random::Random;
use paravane_sqlite::rusqlite::{Connection, Result, params};

const ACCOUNTS: u32 = 10_000;
const TRANSFERS: u64 = 10_000;

const SCHEMA: &str = "
    create table account(id integer primary key, branch integer not null, balance integer not null);
    create table history(account integer not null, amount integer not null, note text not null);
    create index account_branch on account(branch);
";

/// The sums of a report: by branch, over the history, and over its notes.
const REPORT: &str = "
    select total(1), total(b), total(n) from (
        select a.branch, sum(a.balance) b, (
            select sum(h.amount * length(h.note)) from history h where h.account = a.branch
        ) n from account a group by a.branch having b > -1000000 order by b desc
    )
";

/// A bank opens, moves money about, and reports.
pub(crate) fn prepare() -> Pass {
    // Whoever runs the first pass sees that SQLite is not there.
    let ready = paravane_sqlite::initialize();
    Box::new(move || ready.map_or(0, |()| day_of_a_bank().unwrap_or(1)))
}

fn day_of_a_bank() -> Result<u64> {
    let mut database = Connection::open_in_memory()?;
    database.execute_batch(SCHEMA)?;
    let mut random = Random::new();
    let transaction = database.transaction()?;
    open(&transaction)?;
    for _ in 0..TRANSFERS {
        transfer(&transaction, &mut random)?;
    }
    transaction.commit()?;
    let mut report = database.prepare(REPORT)?;
    report.query_row([], |row| {
        let [branches, balance, notes] = [row.get(0)?, row.get(1)?, row.get(2)?];
        Ok([branches, balance, notes]
            .into_iter()
            .fold(0_u64, |sum, value: f64| sum.wrapping_mul(31) ^ value.to_bits()))
    })
}

fn open(database: &Connection) -> Result<()> {
    let mut account = database.prepare("insert into account values(?1, ?2, ?3)")?;
    for id in 0..ACCOUNTS {
        account.execute(params![id, id % 97, 1000])?;
    }
    Ok(())
}

fn transfer(database: &Connection, random: &mut Random) -> Result<()> {
    let mut draw = |below: u32| i64::try_from(random.next() % u64::from(below)).unwrap_or(0);
    let (from, to, amount) = (draw(ACCOUNTS), draw(ACCOUNTS), draw(100));
    let mut change =
        database.prepare_cached("update account set balance = balance + ?2 where id = ?1")?;
    change.execute(params![from, -amount])?;
    change.execute(params![to, amount])?;
    let mut note = database.prepare_cached("insert into history values(?1, ?2, 'to ' || ?3)")?;
    note.execute(params![from, -amount, to])?;
    Ok(())
}
