//! Room for what is held in memory at one time, of callers and servers together. Small things need none, so that big ones cannot
//! starve ordinary calls; what is big takes room from one budget for as long as its bytes live, and is refused when there is none.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http_body::Body;
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::Limits;

/// The budget. Clones are the same.
#[derive(Clone, Debug)]
pub struct Room {
    budget: Arc<Semaphore>,
    small: usize,
    max: usize,
}

/// Why something is not held.
#[derive(Debug)]
pub enum NotHeld<E> {
    /// It is over the size limit.
    TooLarge,
    /// There is no room at this moment.
    NoRoom,
    /// It did not come whole.
    Cut(E),
}

/// There is no room at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no room at this moment")]
pub struct NoRoom(());

/// Room that was taken.
#[derive(Debug, Default)]
pub struct Taken(Option<OwnedSemaphorePermit>);

impl Taken {
    /// The bytes, which keep their room until the last of them is gone.
    #[must_use]
    pub fn keep(self, bytes: Bytes) -> Bytes {
        struct Kept(Bytes, #[allow(dead_code, reason = "held, not read")] OwnedSemaphorePermit);
        impl AsRef<[u8]> for Kept {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }
        match self.0 {
            Some(permit) => Bytes::from_owner(Kept(bytes, permit)),
            None => bytes,
        }
    }
}

impl Room {
    /// Room within these limits.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        Self { budget: Arc::new(Semaphore::new(limits.held_bytes)), small: limits.small_body_bytes, max: limits.body_bytes }
    }

    /// Makes `taken` suffice for `length` bytes.
    pub fn take(&self, taken: &mut Taken, length: usize) -> Result<(), NoRoom> {
        let missing = length.saturating_sub(taken.0.as_ref().map_or(0, OwnedSemaphorePermit::num_permits));
        if length <= self.small || missing == 0 {
            return Ok(());
        }
        let missing = u32::try_from(missing).map_err(|_| NoRoom(()))?;
        let more = Arc::clone(&self.budget).try_acquire_many_owned(missing).map_err(|_| NoRoom(()))?;
        match &mut taken.0 {
            Some(permit) => permit.merge(more),
            None => taken.0 = Some(more),
        }
        Ok(())
    }

    /// Reads a body to its end.
    pub async fn hold<B: Body<Data = Bytes> + Unpin>(&self, mut body: B) -> Result<(Bytes, Taken), NotHeld<B::Error>> {
        if body.size_hint().lower() > self.max as u64 {
            return Err(NotHeld::TooLarge);
        }
        let mut taken = Taken::default();
        let mut whole = BytesMut::new();
        while let Some(frame) = body.frame().await {
            // Trailers are not part of a message (rule 12).
            let Ok(data) = frame.map_err(NotHeld::Cut)?.into_data() else { continue };
            let length = whole.len() + data.len();
            if length > self.max {
                return Err(NotHeld::TooLarge);
            }
            self.take(&mut taken, length).map_err(|NoRoom(())| NotHeld::NoRoom)?;
            whole.extend_from_slice(&data);
        }
        Ok((whole.freeze(), taken))
    }
}

/// Reads on from a body that is refused, up to `max` bytes, and throws it away. A caller who is still sending when the connection
/// closes finds it reset, and may never read why.
pub async fn discard<B: Body<Data = Bytes> + Unpin>(mut body: B, max: usize) {
    let mut read = 0;
    while read < max
        && let Some(Ok(frame)) = body.frame().await
    {
        read += frame.data_ref().map_or(0, Bytes::len);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use http_body::Frame;
    use http_body_util::Full;

    use super::*;

    fn room() -> Room {
        Room::new(&Limits { held_bytes: 100, small_body_bytes: 10, body_bytes: 60, ..Limits::default() })
    }

    struct Pieces(VecDeque<usize>);

    impl Body for Pieces {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(self.0.pop_front().map(|size| Ok(Frame::data(Bytes::from(vec![b'x'; size])))))
        }
    }

    fn pieces(sizes: &[usize]) -> Pieces {
        Pieces(sizes.iter().copied().collect())
    }

    #[tokio::test]
    async fn room_is_taken_for_as_long_as_the_bytes_live() {
        let room = room();
        let (bytes, taken) = room.hold(pieces(&[20, 30])).await.unwrap();
        let bytes = taken.keep(bytes);
        assert_eq!((bytes.len(), room.budget.available_permits()), (50, 50));
        let part = bytes.slice(10..20);
        drop(bytes);
        assert_eq!(room.budget.available_permits(), 50, "a part of them lives");
        drop(part);
        assert_eq!(room.budget.available_permits(), 100);
    }

    #[tokio::test]
    async fn without_room_big_things_are_not_held_and_small_ones_are() {
        let room = room();
        let big = room.hold(pieces(&[60])).await.unwrap();
        let other = room.hold(pieces(&[20, 20])).await.unwrap();
        assert!(matches!(room.hold(pieces(&[11])).await, Err(NotHeld::NoRoom)));
        assert_eq!(room.hold(pieces(&[5, 5])).await.unwrap().0.len(), 10);
        drop((big, other));
        assert_eq!(room.budget.available_permits(), 100);
    }

    #[tokio::test]
    async fn what_is_over_the_limit_is_refused_before_it_is_read_where_its_length_is_known() {
        let room = room();
        assert!(matches!(room.hold(pieces(&[30, 31])).await, Err(NotHeld::TooLarge)));
        assert!(matches!(room.hold(Full::new(Bytes::from(vec![b'x'; 61]))).await, Err(NotHeld::TooLarge)));
        assert_eq!(room.budget.available_permits(), 100);
    }
}
