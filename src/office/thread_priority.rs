//! Priority of threads that work for pages, below that of the threads that store messages.

/// Added to the niceness of a thread that works for pages (nice(2)): when all cores are busy, a
/// receipt goes before a page. At 10 a thread weighs a tenth of one at 0.
const NICE: i32 = 10;

/// Lowers the priority of the calling thread for good: on Linux each thread has its own.
pub(crate) fn yield_to_receipts() {
    if let Err(error) = rustix::process::nice(NICE) {
        tracing::warn!(%error, "thread of the console keeps its priority; pages may delay receipts");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_calling_thread_gets_a_lower_priority() {
        let own = || rustix::process::getpriority_process(None).unwrap();
        let before = own();
        let lowered = std::thread::spawn(move || {
            yield_to_receipts();
            own()
        });
        assert_eq!(lowered.join().unwrap(), (before + NICE).min(19));
        assert_eq!(own(), before);
    }
}
