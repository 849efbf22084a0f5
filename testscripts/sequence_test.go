package testscripts

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// A turn is one thing that is done in a random sequence. Its number makes it the same whatever was done
// before, as far as that is still possible, so that a sequence can be played again without some turns.
type turn struct {
	what   string
	number uint64
}

// A stage is where turns are taken, from an empty source on.
type stage interface {
	// take says what it did, and what is wrong afterwards.
	take(turn) (did, trouble string)
	// strike ends the stage and leaves nothing behind.
	strike()
}

// A sequence is played on a stage until something is wrong.
type sequence struct {
	t     *testing.T
	fresh func() stage
	stage stage
	turns []turn
}

func newSequence(t *testing.T, fresh func() stage) *sequence {
	return &sequence{t: t, fresh: fresh, stage: fresh()}
}

// take takes the next turn. If something is wrong then, it fails the test and looks for a shorter
// sequence of which that can be said.
func (s *sequence) take(what string) {
	next := turn{what, uint64(len(s.turns))}
	s.turns = append(s.turns, next)
	did, trouble := s.stage.take(next)
	if trouble == "" {
		return
	}
	s.t.Errorf("turn %d, %s %s: %s", next.number, what, did, trouble)
	s.t.Log(s.shortest())
}

// shortening is how long a shorter sequence is looked for.
const shortening = 3 * time.Minute

// shortest tells the shortest sequence that was found to go wrong. What comes before its first run has made
// the source; without a part of it, the other steps would find another one.
func (s *sequence) shortest() string {
	plays, story := 0, ""
	goesWrong := func(turns []turn) bool {
		plays++
		told, wrong := s.play(turns)
		if wrong {
			story = told
		}
		return wrong
	}
	until := time.Now().Add(shortening)
	turns := s.turns
	for n := 4; n < len(turns) && time.Now().Before(until); n *= 2 {
		if late := lateRuns(turns, n); goesWrong(late) {
			turns = late
			break
		}
	}
	first := slices.IndexFunc(turns, turn.isRun)
	before, turns := turns[:first], turns[first:]
	shortest := shorten(turns, func(some []turn) bool { return goesWrong(slices.Concat(before, some)) }, until)
	if story == "" {
		return fmt.Sprintf("it did not go wrong again in %d sequences", plays)
	}
	return fmt.Sprintf("after %d steps, %d of %d turns are enough (%d sequences were played):\n%s",
		len(before), len(shortest), len(s.turns)-len(before), plays, story)
}

// isRun reports whether a turn is more than a change of the source.
func (t turn) isRun() bool { return t.what != "step" }

// lateRuns leaves out all turns but steps and the last n others: it is runs that take the time.
func lateRuns(turns []turn, n int) (late []turn) {
	for _, turn := range slices.Backward(turns) {
		if turn.isRun() {
			if n--; n < 0 {
				continue
			}
		}
		late = append(late, turn)
	}
	slices.Reverse(late)
	return late
}

// play takes turns on a fresh stage and tells what they did from the first run to the first after which
// something is wrong.
func (s *sequence) play(turns []turn) (story string, wrong bool) {
	stage := s.fresh()
	defer stage.strike()
	var b strings.Builder
	for _, turn := range turns {
		did, trouble := stage.take(turn)
		if turn.isRun() || b.Len() > 0 {
			fmt.Fprintf(&b, "%6d %s %s\n", turn.number, turn.what, did)
		}
		if trouble != "" {
			return b.String() + trouble, true
		}
	}
	return b.String(), false
}

// shorten leaves ever smaller parts out of a sequence as long as the rest goes wrong as well (Zeller and
// Hildebrandt's ddmin, without its complements), and gives up when the time is over.
func shorten(turns []turn, wrong func([]turn) bool, until time.Time) []turn {
	for size := len(turns) / 2; size > 0; {
		shorter := false
		for at := 0; at < len(turns) && time.Now().Before(until); {
			rest := slices.Concat(turns[:at], turns[min(at+size, len(turns)):])
			if len(rest) > 0 && wrong(rest) {
				turns, shorter = rest, true
			} else {
				at += size
			}
		}
		if size > 1 || !shorter {
			size /= 2
		}
	}
	return turns
}

func TestShorten(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		turns  int
		needed []uint64
	}{
		{1, []uint64{0}},
		{2, []uint64{1}},
		{100, []uint64{17}},
		{1000, []uint64{0, 500, 501, 999}},
		{64, []uint64{31, 32}},
	} {
		var turns []turn
		for i := range tt.turns {
			turns = append(turns, turn{number: uint64(i)})
		}
		plays := 0
		shortest := shorten(turns, func(turns []turn) bool {
			plays++
			return !slices.ContainsFunc(tt.needed, func(n uint64) bool { return !slices.Contains(turns, turn{number: n}) })
		}, time.Now().Add(time.Minute))
		var got []uint64
		for _, turn := range shortest {
			got = append(got, turn.number)
		}
		if !slices.Equal(got, tt.needed) || plays > 200 {
			t.Errorf("of %d turns %v are needed: %v are left after %d plays", tt.turns, tt.needed, got, plays)
		}
	}
}
