//! Until when a certificate of ours is valid. A server that refuses one says no more than "bad certificate"; whoever has to
//! renew it should not have to guess. Only this is read of it: RFC 5280, `tbsCertificate.validity.notAfter`.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// The end of the validity of the first certificate of a PEM file; `None` where that cannot be read.
pub(super) fn ends(pem: &[u8]) -> Option<jiff::Timestamp> {
    let der = CertificateDer::from_pem_slice(pem).ok()?;
    let (certificate, _) = element(&der, SEQUENCE)?;
    let (mut rest, _) = element(certificate, SEQUENCE)?;
    if *rest.first()? == VERSION {
        rest = any(rest)?.2;
    }
    // serial number, signature algorithm, issuer
    for _ in 0..3 {
        rest = any(rest)?.2;
    }
    let (validity, _) = element(rest, SEQUENCE)?;
    let (_, _, not_after) = any(validity)?;
    let (tag, text, _) = any(not_after)?;
    time(tag, std::str::from_utf8(text).ok()?)
}

/// Tag, content and what follows, of one DER element.
fn any(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = bytes.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match *first {
        short @ 0..0x80 => (usize::from(short), rest),
        long => {
            let count = usize::from(long & 0x7f);
            let digits = rest.get(..count).filter(|_| (1..=4).contains(&count))?;
            (digits.iter().fold(0, |n, d| n << 8 | usize::from(*d)), &rest[count..])
        }
    };
    Some((*tag, rest.get(..length)?, &rest[length..]))
}

fn element(bytes: &[u8], wanted: u8) -> Option<(&[u8], &[u8])> {
    let (tag, content, rest) = any(bytes)?;
    (tag == wanted).then_some((content, rest))
}

/// `YYMMDDHHMMSSZ` (1950 to 2049) or `YYYYMMDDHHMMSSZ`.
fn time(tag: u8, text: &str) -> Option<jiff::Timestamp> {
    let text = match (tag, text.get(..2)?.parse::<u8>().ok()?) {
        (UTC_TIME, year) => format!("{}{text}", if year < 50 { 20 } else { 19 }),
        (GENERALIZED_TIME, _) => text.to_owned(),
        _ => return None,
    };
    jiff::civil::DateTime::strptime("%Y%m%d%H%M%SZ", text).ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|t| t.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    #[test]
    fn the_end_of_certificates_of_both_spellings_of_a_time() {
        for (year, expected) in [(2021, "2021-03-04T00:00:00Z"), (2060, "2060-03-04T00:00:00Z")] {
            let mut params = CertificateParams::new(vec!["x".to_owned()]).unwrap();
            params.not_after = date_time_ymd(year, 3, 4);
            let pem = params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem();
            assert_eq!(ends(pem.as_bytes()).unwrap().to_string(), expected);
            // no cut of it brings it down
            let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
            (0..der.len()).for_each(|cut| assert!(element(&der[..cut], SEQUENCE).is_none(), "{cut}"));
        }
        assert_eq!((ends(b"no certificate"), any(&[0x30, 0x85, 1, 1, 1, 1, 1]), any(&[0x30, 5, 0])), (None, None, None));
        assert_eq!(time(UTC_TIME, "991231235959Z").unwrap().to_string(), "1999-12-31T23:59:59Z");
        assert_eq!((time(UTC_TIME, ""), time(0x02, "2021"), time(GENERALIZED_TIME, "2021")), (None, None, None));
    }
}
