package reconcile

import "time"

// publish brings the status up to date. The caller holds the lock.
func (l *Loop[K, V]) publish() {
	l.statusLock.Lock()
	defer l.statusLock.Unlock()
	l.status.Failing = len(l.failed)
	switch {
	case l.readWait.err != nil:
		l.status.LastError = l.readWait.err.Error()
	case l.pruneWait.err != nil:
		l.status.LastError = l.pruneWait.err.Error()
	case len(l.failed) == 0:
		l.status.LastError = ""
	case l.lastErr != nil:
		l.status.LastError = l.lastErr.Error()
	}
}

// settle notes the end of a pass, which is a success when nothing is failing.
// The caller holds the lock.
func (l *Loop[K, V]) settle() {
	if !l.pruned || l.pruneWait.err != nil || len(l.failed) > 0 {
		return
	}
	l.syncOnce.Do(func() { close(l.synced) })
	l.statusLock.Lock()
	defer l.statusLock.Unlock()
	l.status.LastSuccess = time.Now()
}

func (l *Loop[K, V]) setDesired(n int) {
	l.statusLock.Lock()
	defer l.statusLock.Unlock()
	l.status.Desired = n
}

func (l *Loop[K, V]) addRepaired(n int) {
	l.statusLock.Lock()
	defer l.statusLock.Unlock()
	l.status.Repaired += uint64(n)
}
