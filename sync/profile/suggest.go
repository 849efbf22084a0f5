package profile

import "strings"

// suggest returns what may have been meant by a key that there is not.
func suggest(name string) string {
	for _, table := range tables {
		if similar(name, table) {
			return "did you mean [" + table + "]?"
		}
	}
	last := name[strings.LastIndexByte(name, '.')+1:]
	names := make([]string, len(keys))
	for i, k := range keys {
		table, base, nested := strings.Cut(k.name, ".")
		if !nested {
			table, base = "", k.name
		}
		switch {
		case base == last:
			return misplaced(k.name, table)
		case similar(last, base):
			return "did you mean " + k.name + "?"
		}
		names[i] = k.name
	}
	return "allowed: " + strings.Join(names, ", ")
}

// similar reports whether a is b but for a slip or two.
func similar(a, b string) bool {
	return distance(a, b) <= min(len(b)/3, 2)
}

func misplaced(name, table string) string {
	if table == "" {
		return name + " belongs above the first [table]"
	}
	return "did you mean " + name + ", below [" + table + "]?"
}

// distance is the number of bytes to insert, remove or replace to make a of b (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
