package profile

import (
	"math"
	"testing"
	"time"
)

func TestParseDuration(t *testing.T) {
	const day = 24 * time.Hour
	for text, want := range map[string]time.Duration{
		"10m": 10 * time.Minute, "1h30m": 90 * time.Minute, "7d": 7 * day, "1d12h": 36 * time.Hour,
		"2w": 14 * day, "1w1d1h1m1s": 8*day + time.Hour + time.Minute + time.Second,
		"1.5d": 36 * time.Hour, "0s": 0, "0": 0, "2µs": 2 * time.Microsecond, "15250w": 15250 * 7 * day,
	} {
		if got, err := ParseDuration(text); err != nil || got != want {
			t.Errorf("%s: got %s, %v, want %s", text, got, err, want)
		}
	}
	for _, text := range []string{"", "d", "10", "-1d", "+1h", "1d-1h", "never", "7 d", "1d ", "1dd", "1..5d", "1y", "15251w", "106752d", "15250w15250w", "1e3s"} {
		if got, err := ParseDuration(text); err == nil {
			t.Errorf("%q is accepted: %s", text, got)
		}
	}
}

func FuzzParseDuration(f *testing.F) {
	f.Add("1w2d3h4.5m")
	f.Add("9999999999w")
	f.Fuzz(func(t *testing.T, text string) {
		d, err := ParseDuration(text)
		if err == nil && d < 0 {
			t.Fatalf("%q is %d", text, d)
		}
		if want, err2 := time.ParseDuration(text); err == nil && err2 == nil && d != want {
			t.Fatalf("%q is %s, for the time package %s", text, d, want)
		}
	})
}

func TestLimit(t *testing.T) {
	for _, test := range []struct {
		limit           string
		deletions, held int
		want            bool
	}{
		{"none", 1 << 40, 1, true},
		{"0", 0, 1000, true},
		{"0", 1, 1000, false},
		{"50", 50, 10, true},
		{"50", 51, 1_000_000, false},
		{"25%", 99, 0, true}, // fewer than 100 are never refused by a percentage
		{"25%", 99, 100, true},
		{"0%", 99, 100, true},
		{"0%", 100, 1_000_000, false},
		{"25%", 100, 399, false},
		{"25%", 100, 400, true},
		{"25%", 101, 400, false},
		{"25%", 250_001, 1_000_000, false},
		{"33%", 333, 1009, false},
		{"33%", 333, 1010, true},
		{"100%", 1000, 1000, true},
		{"100%", 1001, 1000, false},
		{"50%", math.MaxInt / 2, math.MaxInt, true},
	} {
		limit, err := ParseLimit(test.limit)
		if err != nil || limit.String() != test.limit {
			t.Errorf("%s: got %s, %v", test.limit, limit, err)
		}
		if got := limit.Allows(test.deletions, test.held); got != test.want {
			t.Errorf("%s: %d of %d: got %t", test.limit, test.deletions, test.held, got)
		}
	}
	for _, text := range []string{"", "%", "-1", "-1%", "+1", "1.5%", "101%", "all", "10 %", "99999999999"} {
		if limit, err := ParseLimit(text); err == nil {
			t.Errorf("%q is accepted as %s", text, limit)
		}
	}
	if limit := (Limit{}); !limit.Allows(math.MaxInt, 0) || limit.String() != "none" {
		t.Errorf("the zero Limit is %s", limit)
	}
}
