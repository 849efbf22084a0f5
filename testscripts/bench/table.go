package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// printTable prints the rows. The ratio is the median of the rounds' own ratios: what else the
// machine did in a round slowed down both.
func printTable(out io.Writer, rows []row) error {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "task\tmeasured\tagainst\tratio\tasked")
	for _, r := range rows {
		ratio := "-"
		if m, ok := r.ratio(); ok {
			ratio = number(m)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", r.task, r.cell(r.measured), r.cell(r.against), ratio, r.verdict())
	}
	return t.Flush()
}

// cell shows a series: its name, the median, and the range.
func (r row) cell(s *series) string {
	values := r.values(s)
	switch {
	case errors.Is(s.err, errMissing):
		return s.name + " not installed"
	case s.err != nil:
		return s.name + " failed"
	case len(values) == 0:
		return s.name + " not measured"
	}
	text := s.name + " " + number(median(values))
	if len(values) > 1 {
		text += fmt.Sprintf(" (%s–%s)", number(slices.Min(values)), number(slices.Max(values)))
	}
	return strings.Join(append([]string{text}, s.remarks()...), ", ")
}

func (r row) values(s *series) []float64 {
	var values []float64
	for _, reading := range s.readings {
		values = append(values, r.of(reading))
	}
	return values
}

// ratio is there when both sides are complete.
func (r row) ratio() (ratio float64, ok bool) {
	measured, against := r.values(r.measured), r.values(r.against)
	if len(measured) == 0 || len(measured) != len(against) {
		return 0, false
	}
	ratios := make([]float64, len(measured))
	for i := range ratios {
		ratios[i] = measured[i] / against[i]
	}
	return median(ratios), true
}

// verdict says what is asked of the row and whether it is so.
func (r row) verdict() string {
	var all []string
	judge := func(what string, asked, is float64, known bool) {
		verdict := "not known"
		if known && is <= asked {
			verdict = "met"
		} else if known {
			verdict = "missed"
		}
		all = append(all, fmt.Sprintf("%s ≤ %g: %s", what, asked, verdict))
	}
	if r.asked.value > 0 {
		values := r.values(r.measured)
		known := r.measured.err == nil && len(values) > 0
		judge("value", r.asked.value, median(values), known)
	}
	if r.asked.ratio > 0 {
		is, known := r.ratio()
		judge("ratio", r.asked.ratio, is, known)
	}
	return strings.Join(all, ", ")
}

// median is that of values, 0 if there are none.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	half := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[half]
	}
	return (sorted[half-1] + sorted[half]) / 2
}

// number shows x with three digits that matter.
func number(x float64) string {
	if x >= 100 {
		return fmt.Sprintf("%.0f", x)
	}
	return fmt.Sprintf("%#.3g", x)
}
