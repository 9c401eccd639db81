use std::ops::Range;

use bytes::Bytes;

use crate::encoding::{Coding, DecodeError, Limits, decode};

/// One message of a gRPC body: a flag byte, four bytes of length, and the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrpcFrame {
    /// Whether the message is in the coding that `grpc-encoding` names.
    pub is_compressed: bool,
    /// Where the message stands in the body, without its five bytes of head.
    pub message: Range<usize>,
}

impl GrpcFrame {
    const HEAD_BYTES: usize = 5;

    /// The message without its coding. Copies nothing when it has none.
    ///
    /// `limits` hold for this message alone: who opens several must lower them by what has come out before, because
    /// each small message may grow to [`Limits::RATIO_FREE`].
    ///
    /// # Errors
    /// As [`decode`]; a compressed message without a `coding` is [`DecodeError::Broken`].
    pub fn open(&self, body: &Bytes, coding: Option<Coding>, limits: &Limits) -> Result<Bytes, DecodeError> {
        let message = body.slice(self.message.clone());
        match (self.is_compressed, coding) {
            (false, _) => Ok(message),
            (true, Some(coding)) => decode(&[coding], &message, limits),
            (true, None) => Err(DecodeError::Broken),
        }
    }
}

/// Splits a gRPC body into its frames, one after another. Ends with an error where a frame is cut off or malformed.
///
/// ```
/// # use plainsight::encoding::grpc_frames;
/// let frames: Vec<_> = grpc_frames(b"\0\0\0\0\x02hi").collect::<Result<_, _>>()?;
/// assert_eq!(frames[0].message, 5..7);
/// # Ok::<(), plainsight::encoding::DecodeError>(())
/// ```
pub fn grpc_frames(body: &[u8]) -> impl Iterator<Item = Result<GrpcFrame, DecodeError>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        if at >= body.len() {
            return None;
        }
        let frame = read_frame(body, at);
        at = frame.as_ref().map_or(body.len(), |frame| frame.message.end);
        Some(frame)
    })
}

fn read_frame(body: &[u8], at: usize) -> Result<GrpcFrame, DecodeError> {
    let head = body[at..].first_chunk::<{ GrpcFrame::HEAD_BYTES }>().ok_or(DecodeError::Broken)?;
    let [flag @ (0 | 1), length @ ..] = *head else {
        return Err(DecodeError::Broken);
    };
    let start = at + GrpcFrame::HEAD_BYTES;
    let length = u32::from_be_bytes(length) as usize;
    if length > body.len() - start {
        return Err(DecodeError::Broken);
    }
    Ok(GrpcFrame { is_compressed: flag == 1, message: start..start + length })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding::encode;

    fn frame(flag: u8, message: &[u8]) -> Vec<u8> {
        [&[flag][..], &(message.len() as u32).to_be_bytes(), message].concat()
    }

    #[test]
    fn a_body_is_split_and_each_message_opened() {
        let packed = encode(&[Coding::Gzip], b"second");
        let body = Bytes::from([frame(0, b"first"), frame(1, &packed), frame(0, b"")].concat());

        let frames: Vec<_> = grpc_frames(&body).collect::<Result<_, _>>().unwrap();
        let open = |frame: &GrpcFrame| frame.open(&body, Some(Coding::Gzip), &Limits::default()).unwrap();

        assert_eq!(frames.iter().map(open).collect::<Vec<_>>(), [&b"first"[..], b"second", b""]);
        assert_eq!(frames[1].open(&body, None, &Limits::default()), Err(DecodeError::Broken));
    }

    #[test]
    fn a_frame_that_is_cut_off_is_broken_after_the_whole_ones() {
        let body = [frame(0, b"first"), frame(0, b"second")].concat();
        for end in 11..body.len() {
            let frames: Vec<_> = grpc_frames(&body[..end]).collect();

            assert_eq!(frames.len(), 2, "{end}");
            assert!(frames[0].is_ok());
            assert_eq!(frames[1], Err(DecodeError::Broken));
        }
    }

    #[test]
    fn a_flag_that_is_not_known_is_broken() {
        let frames: Vec<_> = grpc_frames(b"\x80\0\0\0\x01a").collect();

        assert_eq!(frames, [Err(DecodeError::Broken)]);
    }
}
