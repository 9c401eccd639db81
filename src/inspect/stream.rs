//! Streams of gRPC messages: splits a body, and undoes each message's coding within one limit for all of them.

use bytes::Bytes;

use crate::{
    encoding::{self, Coding, DecodeError, Limits},
    model::{ByteSize, NotInspected, RequestHead},
    payload::{Content, StreamMessage},
};

/// Most messages of a body that are looked at. Exporters send one.
const MOST_MESSAGES: usize = 10_000;

/// Splits `body`; also says why the rest was not read, if there is one.
pub(super) fn split(
    head: &RequestHead,
    body: &Bytes,
    limits: &Limits,
) -> (Vec<StreamMessage>, Option<NotInspected>) {
    let coding = coding(head);
    let mut left = left_for(body.len(), limits);
    let mut messages = Vec::new();
    for frame in encoding::grpc_frames(body) {
        let frame = match frame {
            Ok(frame) => frame,
            Err(_) => return (messages, Some(NotInspected::FormatBroken)),
        };
        if frame.message.is_empty() {
            continue;
        }
        if messages.len() == MOST_MESSAGES {
            return (messages, Some(NotInspected::NestingBudget));
        }
        let content = match &coding {
            _ if !frame.is_compressed => Content::Plain,
            // The message before was too large: trying each of the others would cost as much again.
            _ if left == 0 => Content::Unread(NotInspected::DecodedTooLarge),
            Err(error) => Content::Unread(error.reason()),
            Ok(coding) => {
                let limits = Limits { decoded: ByteSize::bytes(left as u64), ..*limits };
                match frame.open(body, *coding, &limits) {
                    Ok(message) => {
                        left -= message.len().min(left);
                        Content::Decoded(message)
                    }
                    Err(error) => {
                        if matches!(error, DecodeError::TooLarge { .. }) {
                            left = 0;
                        }
                        Content::Unread(error.reason())
                    }
                }
            }
        };
        messages.push(StreamMessage { span: frame.message, content });
    }
    (messages, None)
}

/// The coding that `grpc-encoding` names; one at most.
pub(super) fn coding(head: &RequestHead) -> Result<Option<Coding>, DecodeError> {
    let codings = encoding::codings(head.header("grpc-encoding").into_iter())?;
    match codings[..] {
        [] => Ok(None),
        [coding] => Ok(Some(coding)),
        [_, second, ..] => Err(DecodeError::Unsupported(second.as_str().to_owned())),
    }
}

/// How much all messages together may become.
fn left_for(sent: usize, limits: &Limits) -> usize {
    let by_ratio = sent.saturating_mul(limits.ratio as usize).max(Limits::RATIO_FREE.as_usize());
    limits.decoded.as_usize().min(by_ratio)
}
