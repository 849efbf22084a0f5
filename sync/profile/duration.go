package profile

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
)

// ParseDuration is time.ParseDuration without signs and with two more units, d for 24 hours and w for
// 7 days: "10m", "1d12h", "2w".
func ParseDuration(s string) (time.Duration, error) {
	if s == "" {
		return 0, errors.New("the duration is empty")
	}
	var total time.Duration
	for rest := s; rest != ""; {
		term := rest[:termLength(rest)]
		rest = rest[len(term):]
		d, err := parseTerm(term)
		if err != nil || d > math.MaxInt64-total {
			return 0, fmt.Errorf("%q is not a duration", s)
		}
		total += d
	}
	return total, nil
}

// termLength returns the length of the number and the unit that s begins with.
func termLength(s string) int {
	unit := len(s) - len(strings.TrimLeft(s, "0123456789."))
	next := strings.IndexAny(s[unit:], "0123456789.")
	if next < 0 {
		return len(s)
	}
	return unit + next
}

func parseTerm(term string) (time.Duration, error) {
	if strings.ContainsAny(term, "+-") {
		return 0, errors.New("a sign")
	}
	hours := time.Duration(1)
	number := term
	if days, ok := strings.CutSuffix(term, "d"); ok {
		number, hours = days+"h", 24
	} else if weeks, ok := strings.CutSuffix(term, "w"); ok {
		number, hours = weeks+"h", 7*24
	}
	d, err := time.ParseDuration(number)
	if err != nil || d > math.MaxInt64/hours {
		return 0, errors.New("not a number with a unit")
	}
	return d * hours, nil
}
