package changes

import (
	"errors"
	"fmt"
	"time"
)

// mend completes the segments in dir that a dead writer left unsealed, and cuts off what is damaged.
// The caller is the writer. The gaps that this leaves are durable before anything is cut off, or a
// crash in between would hide them.
func mend(dir string) error {
	unlock, err := lockDir(dir)
	if err != nil {
		return err
	}
	defer unlock()
	numbers, err := segments(dir)
	if err != nil {
		return err
	}
	unsealed := map[uint64]int64{} // by number: how much of it is good
	var gaps []byte
	for _, n := range numbers {
		sealed, good, err := readSegment(segmentPath(dir, n), func(record) {})
		if gap, ok := damage(err, KnownUntil(dir)); ok {
			gaps = appendGap(gaps, gap)
		} else if err != nil {
			return err
		}
		if !sealed {
			unsealed[n] = good
		}
	}
	if len(gaps) > 0 {
		if err := addSegment(dir, gaps); err != nil {
			return err
		}
	}
	for n, good := range unsealed {
		if err := sealAt(segmentPath(dir, n), good); err != nil {
			return fmt.Errorf("completing a segment: %w", err)
		}
	}
	return nil
}

// damage gives the gap that a segment leaves which readSegment could not read to its end. A torn
// tail was written after the last heartbeat, for that comes after a sync; what is damaged otherwise
// may be of any age.
func damage(err error, known time.Time) (gap Gap, ok bool) {
	gap = Gap{Reason: fmt.Sprintf("the journal was damaged: %v", err), Subtree: ".", Until: time.Now()}
	switch {
	case errors.Is(err, errTorn):
		gap.Since = known
		return gap, true
	case errors.Is(err, errDamaged):
		return gap, true
	}
	return Gap{}, false
}
