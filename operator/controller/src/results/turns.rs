//! Which reader may merge next? Namespaces take turns, so that one that asks all the time does not delay the
//! others.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// Readers of one namespace that wait, at most.
const EACH: usize = 8;
/// Readers that wait, at most.
const ALL: usize = 64;

/// Gives one reader at a time its turn. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Turns(Arc<Mutex<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    taken: bool,
    all: usize,
    /// Every namespace once that has a reader in `of`.
    order: VecDeque<String>,
    of: HashMap<String, VecDeque<oneshot::Sender<Turn>>>,
}

/// The turn of one reader; dropping it passes it on.
#[derive(Debug)]
pub(super) struct Turn(Option<Turns>);

impl Turns {
    /// Waits for the turn of a reader of `namespace`; `None` when too many wait already.
    pub(super) async fn take(&self, namespace: &str) -> Option<Turn> {
        let turn = {
            let mut waiting = self.waiting();
            if !waiting.taken {
                waiting.taken = true;
                return Some(Turn(Some(self.clone())));
            }
            waiting.push(namespace)?
        };
        turn.await.ok()
    }

    /// Gives the turn to the next reader that still waits.
    fn pass(&self) {
        loop {
            let mut waiting = self.waiting();
            let Some(next) = waiting.pop() else {
                waiting.taken = false;
                return;
            };
            drop(waiting);
            match next.send(Turn(Some(self.clone()))) {
                Ok(()) => return,
                // It went away; its turn must not be passed on twice.
                Err(mut turn) => turn.0 = None,
            }
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn push(&mut self, namespace: &str) -> Option<oneshot::Receiver<Turn>> {
        let known = self.of.get(namespace).map_or(0, VecDeque::len);
        if known >= EACH || self.all >= ALL {
            return None;
        }
        if known == 0 {
            self.order.push_back(namespace.to_owned());
        }
        let (sender, receiver) = oneshot::channel();
        self.of.entry(namespace.to_owned()).or_default().push_back(sender);
        self.all += 1;
        Some(receiver)
    }

    fn pop(&mut self) -> Option<oneshot::Sender<Turn>> {
        let namespace = self.order.pop_front()?;
        let readers = self.of.get_mut(&namespace)?;
        let next = readers.pop_front();
        self.all = self.all.saturating_sub(1);
        if readers.is_empty() {
            self.of.remove(&namespace);
        } else {
            self.order.push_back(namespace);
        }
        next
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(turns) = self.0.take() {
            turns.pass();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn namespaces_take_turns_whoever_asks_more() {
        let turns = Turns::default();
        let first = turns.take("shop").await.unwrap();
        let mut waiting = Vec::new();
        for (n, namespace) in ["shop", "shop", "shop", "bank", "zoo", "bank"].into_iter().enumerate() {
            let turns = turns.clone();
            let mut turn = async move { (n, turns.take(namespace).await.unwrap()) }.boxed();
            assert!(futures::poll!(&mut turn).is_pending());
            waiting.push(turn);
        }
        drop(first);
        let mut order = Vec::new();
        while !waiting.is_empty() {
            let ((n, turn), _, rest) = futures::future::select_all(waiting).await;
            order.push(n);
            waiting = rest;
            drop(turn);
        }
        assert_eq!(order, [0, 3, 4, 1, 5, 2]);
    }

    #[tokio::test]
    async fn who_goes_away_loses_the_turn_and_not_too_many_wait() {
        let turns = Turns::default();
        let first = turns.take("shop").await.unwrap();
        let wait = |namespace: &'static str| {
            let turns = turns.clone();
            async move { turns.take(namespace).await }.boxed()
        };
        let mut gone: Vec<_> = (0..EACH).map(|_| wait("shop")).collect();
        for turn in &mut gone {
            assert!(futures::poll!(turn).is_pending());
        }
        assert!(wait("shop").await.is_none(), "one namespace");
        let mut last = wait("bank");
        assert!(futures::poll!(&mut last).is_pending());
        drop(gone);
        drop(first);
        assert!(last.await.is_some());
        assert!(!turns.waiting().taken);
        assert!(turns.waiting().of.is_empty() && turns.waiting().order.is_empty());
    }
}
