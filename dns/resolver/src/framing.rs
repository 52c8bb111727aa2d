//! Messages in a stream: two bytes of length before each (RFC 1035 section 4.2.2).

/// Puts a message behind others of a stream.
pub(crate) fn queue(output: &mut Vec<u8>, message: &[u8]) {
    output.extend_from_slice(&(message.len() as u16).to_be_bytes());
    output.extend_from_slice(message);
}

/// Takes a whole message off the front of a stream (RFC 1035 section 4.2.2).
pub(crate) fn frame(input: &mut Vec<u8>) -> Option<Vec<u8>> {
    let length = usize::from(u16::from_be_bytes([*input.first()?, *input.get(1)?]));
    if input.len() < 2 + length {
        return None;
    }
    let message = input[2..2 + length].to_vec();
    input.drain(..2 + length);
    Some(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_off_one_by_one() {
        let mut input = vec![0, 2, 7, 8, 0, 1, 9, 0];
        assert_eq!(frame(&mut input), Some(vec![7, 8]));
        assert_eq!(frame(&mut input), Some(vec![9]));
        assert_eq!(frame(&mut input), None);
        input.extend_from_slice(&[0]);
        assert_eq!(frame(&mut input), Some(Vec::new()));
    }
}
