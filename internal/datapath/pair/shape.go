package pair

import (
	"fmt"
	"math"
	"time"

	"github.com/vishvananda/netlink"
)

const (
	// A train of segments must fit into the bucket as a whole, or the kernel
	// cuts it up.
	minBurstBytes = 64 << 10
	maxQueueDelay = 25 * time.Millisecond
	// Container runtimes fill in the largest number for a burst that nobody
	// asked for. It would let a pod send half a gigabyte before it is limited.
	unsetBurstBits = math.MaxInt32
	defaultBurst   = 50 * time.Millisecond
)

// bucketBytes is the size of the bucket, for a rate and a burst in bits.
func bucketBytes(rate, burst uint64) uint64 {
	if burst == 0 || burst >= unsetBurstBits {
		burst = uint64(float64(rate) * defaultBurst.Seconds())
	}
	return min(max(burst/8, minBurstBytes), math.MaxUint32)
}

// ShapeIngress limits what the pod receives: a token bucket on the host side,
// rate in bits per second (more than zero), burst in bits.
func ShapeIngress(hostIndex int, rate, burst uint64) error {
	h, err := netlink.NewHandle()
	if err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	defer h.Close()
	if err := shape(h, hostIndex, rate, burst); err != nil {
		return fmt.Errorf("limit what the pod receives: %w", err)
	}
	return nil
}

func shape(h *netlink.Handle, index int, rate, burst uint64) error {
	attrs := netlink.QdiscAttrs{LinkIndex: index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT}
	bytesPerSec, burstBytes := rate/8, bucketBytes(rate, burst)
	tbf := &netlink.Tbf{
		QdiscAttrs: attrs,
		Rate:       bytesPerSec,
		// The kernel wants the bucket as the time to fill it, in ticks.
		Buffer: netlink.Xmittime(bytesPerSec, uint32(burstBytes)),
		Limit:  uint32(min(burstBytes+uint64(float64(bytesPerSec)*maxQueueDelay.Seconds()), math.MaxUint32)),
	}
	if err := h.QdiscReplace(tbf); err != nil {
		return fmt.Errorf("token bucket of %d bit/s on device %d: %w", rate, index, err)
	}
	return nil
}
