package datapath

import (
	"maps"
	"slices"

	"github.com/placid-net/placid/internal/datapath/abi"
)

// backendState is one backend of the node, whichever ports have it.
type backendState struct {
	backendKey
	id       uint32
	lists    int  // in force, that have it
	draining int  // ports that let it finish
	row      bool // the lasting list has it
	taken    bool // its flows are being ended: the id is not given to it again
}

func (b *backendState) unused() bool { return b.lists+b.draining == 0 }

// backend returns the state of a backend that is about to be used. One that was
// gone for a moment has its id back.
func (w *serviceWriter) backend(key backendKey) *backendState {
	b := w.known[key]
	if b == nil {
		b = &backendState{backendKey: key, id: nextID(&w.lastID.backend, maxBackendID, w.ids)}
		w.known[key], w.ids[b.id] = b, b
	}
	return b
}

// use counts one more list, or port that lets it drain, in.
func (w *serviceWriter) use(b *backendState, lists, draining int) {
	b.lists += lists
	b.draining += draining
	delete(w.gone, b.id)
	w.settle(b)
}

// unuse is the reverse. What nobody has then is gone.
func (w *serviceWriter) unuse(b *backendState, lists, draining int) {
	b.lists -= lists
	b.draining -= draining
	if b.unused() {
		w.gone[b.id] = b
		wakeUp(w.goneSoon)
		return // its row stays, or comes when its lists go: see keepGone
	}
	w.settle(b)
}

// settle gives the backend its row of the lasting list when it drains, and takes
// it away when lists alone have it.
func (w *serviceWriter) settle(b *backendState) {
	switch {
	case b.draining > 0 && !b.row:
		w.putSlot(lastingKey(b.id), lastingValue(b.backendKey, b.id))
		b.row = true
	case b.draining == 0 && b.row:
		w.dropLasting(b.id)
		b.row = false
	}
}

// settleAll does so for all backends whose rows were found.
func (w *serviceWriter) settleAll() {
	for _, b := range w.known {
		if b.row && !b.unused() {
			w.settle(b)
		}
	}
}

// dropLasting removes a row of the lasting list.
func (w *serviceWriter) dropLasting(id uint32) {
	w.pending.dropSlots = append(w.pending.dropSlots, lastingKey(id))
	w.used[inBackends]--
	w.freed = true
}

// keepGone writes the ids of gone backends to the lasting list, as far as there
// is room, before the lists that had them are deleted: an agent that is killed
// before it ended their flows leaves that to the next one.
func (w *serviceWriter) keepGone() error {
	free := w.free()[inBackends]
	var keys []abi.CBackendKey
	var values []abi.CBackend
	for _, id := range slices.Sorted(maps.Keys(w.gone)) {
		b := w.gone[id]
		if b.row || len(keys) >= free {
			continue
		}
		keys, values = append(keys, lastingKey(b.id)), append(values, lastingValue(b.backendKey, b.id))
	}
	if err := w.backends.put(keys, values); err != nil {
		w.stale = true
		return err
	}
	for _, key := range keys {
		w.gone[key.Slot].row = true
	}
	w.used[inBackends] += len(keys)
	w.writes += len(keys)
	return nil
}

// takeGone returns the backends that nobody has any more. They do not come back:
// the same address gets another id. Hand them to goneEnded when their flows are
// ended.
func (w *serviceWriter) takeGone() []*backendState {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []*backendState
	for _, id := range slices.Sorted(maps.Keys(w.gone)) {
		b := w.gone[id]
		if b.taken {
			continue
		}
		b.taken = true
		out = append(out, b)
		if w.known[b.backendKey] == b {
			delete(w.known, b.backendKey)
		}
	}
	return out
}

// goneEnded forgets backends that nothing refers to any more.
func (w *serviceWriter) goneEnded(ended []*backendState) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, b := range ended {
		// After an error of the kernel the mirror may have been read anew.
		now := w.gone[b.id]
		if now == nil || !now.taken {
			continue
		}
		if now.row {
			w.dropLasting(b.id)
		}
		delete(w.gone, b.id)
		delete(w.ids, b.id)
	}
	if w.stale {
		return nil // run reads the kernel anew
	}
	err := w.flush()
	if err == nil {
		err = w.retry()
	}
	if err == nil {
		err = w.flush()
	}
	w.ask()
	return w.mended(err)
}
