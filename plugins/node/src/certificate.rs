//! When certificates end. Of a certificate nothing else is read, and nothing is judged: that is for TLS.

use std::fs;
use std::path::{Path, PathBuf};

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde::Serialize;

/// DER (ITU-T X.690): a sequence, the field with the version, and the two forms of a time.
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// A certificate of a file.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct CertificateEnd {
    pub(crate) file: PathBuf,
    /// Seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ends: Option<i64>,
    /// Why that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
}

/// The ends of all certificates in a file.
pub(crate) fn ends(file: &Path) -> Vec<CertificateEnd> {
    let one = |end: Result<i64, String>| {
        let (ends, error) = match end {
            Ok(ends) => (Some(ends), None),
            Err(error) => (None, Some(error)),
        };
        CertificateEnd {
            file: file.to_owned(),
            ends,
            error,
        }
    };
    let text = match fs::read(file) {
        Ok(text) => text,
        Err(error) => return vec![one(Err(format!("it cannot be read: {error}")))],
    };
    let found: Vec<CertificateEnd> = CertificateDer::pem_slice_iter(&text)
        .map(|certificate| {
            let certificate = certificate.map_err(|error| error.to_string())?;
            not_after(&certificate).ok_or_else(|| "it is no certificate (X.509)".to_owned())
        })
        .map(one)
        .collect();
    match found.is_empty() {
        true => vec![one(Err("there is no certificate in it".to_owned()))],
        false => found,
    }
}

/// Tag and content of the first element, and what follows it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = der.split_first()?;
    let (first, mut rest) = rest.split_first()?;
    let mut length = usize::from(*first);
    if length > 0x7f {
        let (bytes, after) = rest.split_at_checked(length & 0x7f)?;
        length = bytes.iter().try_fold(0_usize, |length, byte| {
            Some(length.checked_mul(256)? | usize::from(*byte))
        })?;
        rest = after;
    }
    let (content, rest) = rest.split_at_checked(length)?;
    Some((*tag, content, rest))
}

fn sequence(der: &[u8]) -> Option<(&[u8], &[u8])> {
    element(der)
        .filter(|(tag, ..)| *tag == SEQUENCE)
        .map(|(_, content, rest)| (content, rest))
}

/// `tbsCertificate.validity.notAfter` (RFC 5280, section 4.1), in seconds since 1970.
fn not_after(certificate: &[u8]) -> Option<i64> {
    let (certificate, _) = sequence(certificate)?;
    let (mut fields, _) = sequence(certificate)?;
    if fields.first() == Some(&VERSION) {
        fields = element(fields)?.2;
    }
    // Serial number, algorithm, issuer.
    for _ in 0..3 {
        fields = element(fields)?.2;
    }
    let (validity, _) = sequence(fields)?;
    let (_, _, rest) = element(validity)?;
    let (tag, text, _) = element(rest)?;
    seconds(tag, std::str::from_utf8(text).ok()?)
}

/// `YYMMDDHHMMSSZ`, or with four digits of the year (RFC 5280, section 4.1.2.5).
fn seconds(tag: u8, text: &str) -> Option<i64> {
    let digits = text.strip_suffix('Z')?;
    let (year, rest) = match tag {
        UTC_TIME => {
            let (year, rest) = digits.split_at_checked(2)?;
            let year: i64 = year.parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        GENERALIZED_TIME => {
            let (year, rest) = digits.split_at_checked(4)?;
            (year.parse().ok()?, rest)
        }
        _ => return None,
    };
    let part = |at: usize| rest.get(at..at + 2)?.parse::<i64>().ok();
    let (month, day) = (part(0)?, part(2)?);
    let (hour, minute, second) = (part(4)?, part(6)?, part(8)?);
    Some(((days(year, month, day) * 24 + hour) * 60 + minute) * 60 + second)
}

/// Days since 1970-01-01 in the Gregorian calendar: years begin in March, so that the leap day is their last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = match month {
        1 | 2 => (year - 1, month + 9),
        _ => (year, month - 3),
    };
    365 * year + year.div_euclid(4) - year.div_euclid(100)
        + year.div_euclid(400)
        + (153 * month + 2) / 5
        + day
        - 719_469
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_seconds_since_1970() {
        for (tag, text, expected) in [
            (UTC_TIME, "700101000000Z", Some(0)),
            (UTC_TIME, "261129120000Z", Some(1_795_953_600)),
            (UTC_TIME, "240229235959Z", Some(1_709_251_199)),
            (GENERALIZED_TIME, "20500101000000Z", Some(2_524_608_000)),
            (GENERALIZED_TIME, "19700301000000Z", Some(5_097_600)),
            (UTC_TIME, "2611291200", None),
            (SEQUENCE, "261129120000Z", None),
        ] {
            assert_eq!(seconds(tag, text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_certificate_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.pem");
        assert!(
            ends(&file)[0]
                .error
                .as_ref()
                .unwrap()
                .contains("cannot be read")
        );
        fs::write(&file, "x").unwrap();
        assert!(
            ends(&file)[0]
                .error
                .as_ref()
                .unwrap()
                .contains("no certificate")
        );
        for bytes in [
            &[][..],
            &[0x30],
            &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff],
            &[0x30, 0x80],
            &[0x30; 40],
        ] {
            assert_eq!(not_after(bytes), None);
        }
    }
}
