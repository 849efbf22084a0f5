package profile

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// A Limit says how many deletions on the target a run may make. The zero Limit allows any number.
type Limit struct {
	kind  limitKind
	value int
}

type limitKind uint8

const (
	unlimited limitKind = iota
	byCount
	byPercent
)

// smallest is the number of deletions that a percentage always allows: in a small tree, everyday
// work soon is half of it.
const smallest = 100

// Count is the Limit of n deletions.
func Count(n int) Limit { return Limit{byCount, n} }

// Percent is the Limit of p per cent of what the target holds, 0 to 100; fewer than 100 deletions
// are within it whatever the target holds.
func Percent(p int) Limit { return Limit{byPercent, p} }

// ParseLimit reads "none", a number, or a percentage.
func ParseLimit(s string) (Limit, error) {
	if s == "none" {
		return Limit{}, nil
	}
	digits, percent := strings.CutSuffix(s, "%")
	n, err := strconv.ParseUint(digits, 10, 31)
	if err != nil {
		return Limit{}, fmt.Errorf("%q is neither a number, nor a percentage, nor \"none\"", s)
	}
	if !percent {
		return Count(int(n)), nil
	}
	if n > 100 {
		return Limit{}, fmt.Errorf("%q is more than everything", s)
	}
	return Percent(int(n)), nil
}

// Allows reports whether a run may delete so many of the entries that the target holds.
func (l Limit) Allows(deletions, held int) bool { return deletions <= l.Most(held) }

// Most returns how many of the entries that the target holds a run may delete.
func (l Limit) Most(held int) int {
	switch l.kind {
	case byCount:
		return l.value
	case byPercent:
		return max(smallest-1, held/100*l.value+held%100*l.value/100)
	}
	return math.MaxInt
}

// String returns the form that ParseLimit reads.
func (l Limit) String() string {
	switch l.kind {
	case byCount:
		return strconv.Itoa(l.value)
	case byPercent:
		return strconv.Itoa(l.value) + "%"
	}
	return "none"
}
