//! The CMOS clock's fields as Unix time (Motorola MC146818).

/// Status B: hours count to 24; numbers are binary, not decimal digits.
const HOURS_24: u8 = 1 << 1;
const BINARY: u8 = 1 << 2;

/// Bit of the hours after noon, where they count to 12.
const AFTERNOON: u8 = 1 << 7;

/// Unix time of `[second, minute, hour, day, month, year, status B]`, of the years 2000 to 2099. 0 for what is
/// no date: there is no clock.
#[must_use]
pub(crate) fn unix_seconds(fields: [u8; 7]) -> u64 {
    let [second, minute, hour, day, month, year, status] = fields;
    let number = |field: u8| -> u64 {
        let digits = u64::from(field >> 4) * 10 + u64::from(field & 0xf);
        if status & BINARY == 0 { digits } else { field.into() }
    };
    let is_afternoon = status & HOURS_24 == 0 && hour & AFTERNOON != 0;
    let mut hours = number(hour & !AFTERNOON);
    if status & HOURS_24 == 0 {
        hours = hours % 12 + if is_afternoon { 12 } else { 0 };
    }
    let (day, month, year) = (number(day), number(month), number(year));
    let (minutes, seconds) = (number(minute), number(second));
    let is_date = (1..=31).contains(&day) && (1..=12).contains(&month) && year < 100;
    if !is_date || hours > 23 || minutes > 59 || seconds > 60 {
        return 0;
    }
    ((days(2000 + year, month, day) * 24 + hours) * 60 + minutes) * 60 + seconds
}

/// Days since 1970-01-01 in the Gregorian calendar. Counting years from March puts the leap day last.
fn days(year: u64, month: u64, day: u64) -> u64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let in_year = (153 * month + 2) / 5 + day - 1;
    year * 365 + year / 4 - year / 100 + year / 400 + in_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_unix_times() {
        let check = |fields, expect| assert_eq!(unix_seconds(fields), expect);
        check([0x00, 0x00, 0x00, 0x01, 0x01, 0x00, HOURS_24], 946_684_800);
        check([0x59, 0x59, 0x23, 0x29, 0x02, 0x24, HOURS_24], 1_709_251_199);
        check([0, 0, 0, 1, 3, 24, HOURS_24 | BINARY], 1_709_251_200);
        check([0x56, 0x34, 0x12, 0x22, 0x11, 0x26, HOURS_24], 1_795_350_896);
        // Noon and midnight in twelve hours.
        check([0, 0, 0x92, 0x01, 0x01, 0x00, 0], 946_684_800 + 12 * 3600);
        check([0, 0, 0x12, 0x01, 0x01, 0x00, 0], 946_684_800);
        check([0, 0, 0x81, 0x01, 0x01, 0x00, 0], 946_684_800 + 13 * 3600);
    }

    #[test]
    fn what_is_no_date_is_nothing() {
        assert_eq!(unix_seconds([0xff; 7]), 0);
        assert_eq!(unix_seconds([0; 7]), 0);
    }
}
