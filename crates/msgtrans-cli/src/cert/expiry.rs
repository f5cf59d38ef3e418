//! When a certificate expires, as it says itself: the one field that the library does not show.

const SEQUENCE: u8 = 0x30;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// The explicit version, first in a certificate of version 3 and absent from one of version 1.
const VERSION: u8 = 0xa0;

/// The end of the validity as `2026-12-04T07:38:28Z`; nothing if `certificate` is not X.509 in DER.
pub(super) fn of(certificate: &[u8]) -> Option<String> {
    let (outer, _) = value(certificate, SEQUENCE)?;
    let (mut fields, _) = value(outer, SEQUENCE)?;
    if fields.first() == Some(&VERSION) {
        fields = element(fields)?.2;
    }
    // The serial number, the algorithm of the signature and the issuer come before the validity.
    for _ in 0..3 {
        fields = element(fields)?.2;
    }
    let (validity, _) = value(fields, SEQUENCE)?;
    let (_, _, not_after) = element(validity)?;
    let (tag, time, _) = element(not_after)?;
    rfc3339(tag, std::str::from_utf8(time).ok()?)
}

/// The content of the element that `der` begins with, if it has this tag, and what follows it.
fn value(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, content, rest) = element(der)?;
    (found == tag).then_some((content, rest))
}

/// The tag and the content of the element that `der` begins with, and what follows it. Tags of a certificate are one
/// byte long.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, first], rest) = der.split_first_chunk()?;
    let (len, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        // Up to 65535 bytes: a certificate is not larger.
        let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
        let len = match *digits {
            [low] => usize::from(low),
            [high, low] => usize::from(u16::from_be_bytes([high, low])),
            _ => return None,
        };
        (len, rest)
    };
    let (content, rest) = rest.split_at_checked(len)?;
    Some((tag, content, rest))
}

/// `YYMMDDHHMMSSZ` until 2049, `YYYYMMDDHHMMSSZ` from then on: the only forms that certificates may use.
fn rfc3339(tag: u8, time: &str) -> Option<String> {
    let digits = time.strip_suffix('Z')?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digits = match (tag, digits.len()) {
        (UTC_TIME, 12) if digits < "50" => format!("20{digits}"),
        (UTC_TIME, 12) => format!("19{digits}"),
        (GENERALIZED_TIME, 14) => digits.to_owned(),
        _ => return None,
    };
    let (date, time) = digits.split_at(8);
    Some(format!(
        "{}-{}-{}T{}:{}:{}Z",
        &date[..4],
        &date[4..6],
        &date[6..],
        &time[..2],
        &time[2..4],
        &time[4..]
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_time_are_read_and_no_other() {
        let read = |tag, time| rfc3339(tag, time);
        let utc = read(UTC_TIME, "261204073828Z");
        assert_eq!(utc.as_deref(), Some("2026-12-04T07:38:28Z"));
        let last_century = read(UTC_TIME, "500101000000Z");
        assert_eq!(last_century.as_deref(), Some("1950-01-01T00:00:00Z"));
        let long = read(GENERALIZED_TIME, "20991231235959Z");
        assert_eq!(long.as_deref(), Some("2099-12-31T23:59:59Z"));
        for (tag, time) in [
            (UTC_TIME, "20991231235959Z"),
            (GENERALIZED_TIME, "261204073828Z"),
            (UTC_TIME, "261204073828"),
            (UTC_TIME, "2612040738é8Z"),
            (0x02, "261204073828Z"),
        ] {
            assert_eq!(rfc3339(tag, time), None, "{tag:#x} {time}");
        }
    }

    #[test]
    fn a_certificate_that_is_cut_short_says_nothing() {
        let identity = msgtrans::tls::Identity::development().expect("randomness");
        let certificate = &identity.certificates()[0];
        assert!(of(certificate).is_some());
        for len in 0..certificate.len() {
            assert_eq!(of(&certificate[..len]), None, "{len}");
        }
    }
}
