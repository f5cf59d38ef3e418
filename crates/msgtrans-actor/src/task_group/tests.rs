//! Counting and waiting for tasks, however they end.

use std::future::pending;

use tokio::sync::oneshot;

use super::*;

#[tokio::test]
async fn a_group_without_tasks_does_not_wait() {
    let group = TaskGroup::new();
    assert!(group.is_empty());
    group.wait().await;
}

#[tokio::test]
async fn waiting_ends_when_the_last_task_does() {
    let group = TaskGroup::new();
    let (first, first_ends) = oneshot::channel::<()>();
    let (second, second_ends) = oneshot::channel::<()>();
    for ends in [first_ends, second_ends] {
        // Through a clone: all clones count together.
        drop(group.clone().spawn(Box::pin(async {
            let _ = ends.await;
        })));
    }
    assert_eq!(group.len(), 2);
    let waiting = group.clone();
    let mut waiting = tokio::spawn(async move { waiting.wait().await });
    drop(first);
    while group.len() == 2 {
        tokio::task::yield_now().await;
    }
    assert!(!waiting.is_finished());
    drop(second);
    (&mut waiting).await.expect("waited");
    assert_eq!(group.len(), 0);
}

#[tokio::test]
async fn an_aborted_task_no_longer_counts() {
    let group = TaskGroup::new();
    group.spawn(Box::pin(pending())).abort();
    group.wait().await;
}

#[tokio::test]
async fn a_panicked_task_no_longer_counts() {
    let group = TaskGroup::new();
    let task = group.spawn(Box::pin(async { panic!("on purpose") }));
    group.wait().await;
    assert!(task.await.expect_err("panicked").is_panic());
}

#[test]
fn a_panic_that_is_caught_is_told_in_its_own_words() {
    assert_eq!(Panicked::catch(|| 7), Ok(7));
    let panicked = Panicked::catch(|| panic!("number {}", 7)).map(|()| 0);
    let panicked = panicked.expect_err("it panicked");
    assert_eq!(panicked, Panicked("number 7".to_owned()));
    assert_eq!(panicked.to_string(), "task panicked: number 7");
}

/// Whoever waits sees what the tasks did, on any number of threads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_sees_every_end() {
    for _ in 0..200 {
        let (group, done) = (TaskGroup::new(), Arc::new(AtomicUsize::new(0)));
        for _ in 0..8 {
            let done = done.clone();
            drop(group.spawn(Box::pin(async move {
                done.fetch_add(1, Ordering::Relaxed);
            })));
        }
        group.wait().await;
        assert_eq!(done.load(Ordering::Relaxed), 8);
    }
}
