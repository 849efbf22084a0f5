package profile

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/BurntSushi/toml"
)

// A setting is a key of a TOML file with its value: string, int64, float64, bool, time.Time, []any,
// map[string]any or []map[string]any.
type setting struct {
	key   string // dotted
	line  int
	value any
}

// settings returns the settings of a TOML file by line. What is in one of the tables is a setting of
// its own; every other table is one setting.
func settings(text string, tables []string) ([]setting, error) {
	var top map[string]toml.Primitive
	meta, err := toml.Decode(text, &top)
	if err != nil {
		return nil, err
	}
	found, err := collect(&meta, nil, top, tables)
	slices.SortFunc(found, func(a, b setting) int {
		return cmp.Or(cmp.Compare(a.line, b.line), cmp.Compare(a.key, b.key))
	})
	return found, err
}

// collect returns the settings in table, which is what stands under key.
func collect(meta *toml.MetaData, key toml.Key, table map[string]toml.Primitive, tables []string) ([]setting, error) {
	var found []setting
	for name, primitive := range table {
		s := setting{key: slices.Concat(key, toml.Key{name}).String()}
		if err := meta.PrimitiveDecode(primitive, &s.value); err != nil {
			return nil, fmt.Errorf("decoding %s: %w", s.key, err)
		}
		s.line = line(meta, primitive)
		if _, isTable := s.value.(map[string]any); !isTable || !slices.Contains(tables, s.key) {
			found = append(found, s)
			continue
		}
		var inner map[string]toml.Primitive
		if err := meta.PrimitiveDecode(primitive, &inner); err != nil {
			return nil, fmt.Errorf("decoding %s: %w", s.key, err)
		}
		below, err := collect(meta, toml.Key{name}, inner, tables)
		if err != nil {
			return nil, err
		}
		found = append(found, below...)
	}
	return found, nil
}

// line returns the line of a value. The toml package tells it only in errors, so it is given
// something that cannot be decoded. The table x of x.y = 1 has no line; its first key has.
func line(meta *toml.MetaData, primitive toml.Primitive) int {
	var failed toml.ParseError
	if errors.As(meta.PrimitiveDecode(primitive, new(undecodable)), &failed) && failed.Position.Line > 0 {
		return failed.Position.Line
	}
	first := 0
	var inner map[string]toml.Primitive
	if meta.PrimitiveDecode(primitive, &inner) == nil {
		for _, below := range inner {
			if at := line(meta, below); first == 0 || at < first {
				first = at
			}
		}
	}
	return max(first, 1)
}

type undecodable struct{}

func (*undecodable) UnmarshalTOML(any) error { return errors.New("not to be decoded") }
