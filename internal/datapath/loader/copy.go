package loader

import (
	"errors"
	"fmt"
	"reflect"

	"github.com/cilium/ebpf"
)

// Entries go to the kernel in batches of about so many bytes, and no fewer entries
// than a bucket of a hash may have.
const (
	copyBytes   = 1 << 18
	copyRows    = 4096
	copyRowsMin = 64
)

// copyTable writes every entry of one table into an empty one of the same layout.
func copyTable(from, to *ebpf.Map, progress func(copied int)) error {
	copied := 0
	return eachBatch(from, func(keys, values reflect.Value) error {
		if _, err := to.BatchUpdate(keys.Interface(), values.Interface(), nil); err != nil {
			return fmt.Errorf("write %d entries: %w", keys.Len(), err)
		}
		copied += keys.Len()
		if progress != nil {
			progress(copied)
		}
		return nil
	})
}

// copyAbsent writes the entries of one table that another of the same layout does
// not have. The kernel takes such writes one by one only.
func copyAbsent(from, to *ebpf.Map, progress func(passed, moved int)) error {
	passed, moved := 0, 0
	return eachBatch(from, func(keys, values reflect.Value) error {
		for i := range keys.Len() {
			err := to.Update(keys.Index(i).Addr().Interface(), values.Index(i).Addr().Interface(), ebpf.UpdateNoExist)
			if err == nil {
				moved++
			} else if !errors.Is(err, ebpf.ErrKeyExist) {
				return fmt.Errorf("write entry: %w", err)
			}
		}
		passed += keys.Len()
		if progress != nil {
			progress(passed, moved)
		}
		return nil
	})
}

// eachBatch reads a whole table that nobody changes. keys and values are slices of
// byte arrays, valid during the call.
func eachBatch(from *ebpf.Map, f func(keys, values reflect.Value) error) error {
	rows := min(copyRows, max(copyRowsMin, copyBytes/int(from.KeySize()+from.ValueSize())))
	keys, values := byteArrays(rows, from.KeySize()), byteArrays(rows, from.ValueSize())
	var cursor ebpf.MapBatchCursor
	for {
		n, err := from.BatchLookup(&cursor, keys.Interface(), values.Interface(), nil)
		last := errors.Is(err, ebpf.ErrKeyNotExist)
		if err != nil && !last {
			return fmt.Errorf("read entries: %w", err)
		}
		if n > 0 {
			if err := f(keys.Slice(0, n), values.Slice(0, n)); err != nil {
				return err
			}
		}
		if last {
			return nil
		}
	}
}

// byteArrays is a slice of n arrays of that many bytes, as batches need them.
func byteArrays(n int, size uint32) reflect.Value {
	array := reflect.ArrayOf(int(size), reflect.TypeFor[byte]())
	return reflect.MakeSlice(reflect.SliceOf(array), n, n)
}
