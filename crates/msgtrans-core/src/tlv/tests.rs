//! TLV bodies as a hostile peer would write them.

use super::*;

fn fields(body: &[u8]) -> Result<Vec<(u8, Vec<u8>)>, DecodeError> {
    let mut fields = Vec::new();
    parse(body, |field| {
        fields.push((field.tag, field.value.to_vec()));
        Ok(())
    })?;
    Ok(fields)
}

#[test]
fn every_tag_passes_once_with_its_value() {
    let mut body = Vec::new();
    for tag in 0..=255 {
        put(&mut body, tag, &vec![tag; usize::from(tag)]);
    }
    let fields = fields(&body).expect("well formed");
    assert_eq!(fields.len(), 256);
    assert!(fields.iter().all(
        |(tag, value)| value.len() == usize::from(*tag) && value.iter().all(|byte| byte == tag)
    ));
}

#[test]
fn a_repeated_tag_is_refused_whatever_it_is() {
    for tag in 0..=255 {
        let mut body = Vec::new();
        put(&mut body, tag, b"");
        put(&mut body, tag.wrapping_add(1), b"x");
        put(&mut body, tag, b"y");
        assert_eq!(fields(&body), Err(DecodeError::TlvDuplicate { tag }));
    }
}

#[test]
fn a_body_cut_anywhere_inside_a_field_is_refused() {
    let mut body = Vec::new();
    put(&mut body, 1, b"abcd");
    let boundary = body.len();
    put(&mut body, 2, b"efgh");
    for cut in 0..body.len() {
        let result = fields(&body[..cut]);
        if cut == 0 || cut == boundary {
            assert_eq!(result.expect("whole fields").len(), cut / boundary);
        } else {
            assert!(
                matches!(result, Err(DecodeError::TlvOverrun { tag, .. }) if usize::from(tag) == 1 + cut / boundary),
                "cut at {cut}"
            );
        }
    }
    let claims_all = [9, 0xff, 0xff, 1, 2];
    let overrun = DecodeError::TlvOverrun {
        tag: 9,
        len: 65_535,
        left: 2,
    };
    assert_eq!(fields(&claims_all), Err(overrun));
}

#[test]
fn numbers_of_any_other_length_are_refused() {
    for len in 0..=33 {
        let value = vec![1; len];
        let field = Tlv {
            tag: 7,
            value: &value,
        };
        let wrong = DecodeError::TlvLength { tag: 7, len };
        assert_eq!(field.u16().err(), (len != 2).then(|| wrong.clone()));
        assert_eq!(field.u32().err(), (len != 4).then(|| wrong.clone()));
        assert_eq!(field.u64().err(), (len != 8).then(|| wrong.clone()));
        assert_eq!(
            field.array::<16>().err(),
            (len != 16).then(|| wrong.clone())
        );
        assert_eq!(field.text(20).err(), (len > 20).then(|| wrong.clone()));
        assert_eq!(field.bytes(20).err(), (len > 20).then(|| wrong.clone()));
    }
}

#[test]
fn text_that_is_not_utf8_is_refused() {
    let field = Tlv {
        tag: 6,
        value: &[b'a', 0xff],
    };
    assert_eq!(field.text(9), Err(DecodeError::TlvNotText { tag: 6 }));
}

#[test]
fn a_value_above_the_length_field_is_cut_and_stays_one_field() {
    let mut body = Vec::new();
    put(&mut body, 4, &vec![3; 70_000]);
    let fields = fields(&body).expect("one field");
    assert_eq!(fields[0].1.len(), 65_535);
}
