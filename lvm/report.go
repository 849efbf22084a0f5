package lvm

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// fields are what lvs(8) is asked for.
const fields = "vg_name,lv_name,lv_uuid,lv_size,origin,pool_lv,lv_tags,segtype,lv_kernel_major,lv_kernel_minor," +
	"data_percent,metadata_percent,lv_snapshot_invalid,lv_health_status,vg_free,vg_extent_size"

// row is a volume as lvs prints it with --reportformat json --units b --nosuffix: all values are strings.
type row struct {
	Group    string `json:"vg_name"`
	Name     string `json:"lv_name"` // in brackets if it is a hidden part of another
	UUID     string `json:"lv_uuid"`
	Size     string `json:"lv_size"`
	Origin   string `json:"origin"`
	Pool     string `json:"pool_lv"`
	Tags     string `json:"lv_tags"`
	Type     string `json:"segtype"`
	Major    string `json:"lv_kernel_major"` // "-1" if it is not active
	Minor    string `json:"lv_kernel_minor"`
	Data     string `json:"data_percent"`
	Metadata string `json:"metadata_percent"`
	Invalid  string `json:"lv_snapshot_invalid"` // "snapshot invalid", "" or "unknown"
	Health   string `json:"lv_health_status"`
	Free     string `json:"vg_free"`
	Extent   string `json:"vg_extent_size"`
}

// parseReport reads what lvs prints.
func parseReport(text []byte) ([]Volume, error) {
	var report struct {
		Report []struct {
			LV []row `json:"lv"`
		} `json:"report"`
	}
	if err := json.Unmarshal(text, &report); err != nil {
		return nil, fmt.Errorf("reading what lvs says: %w", err)
	}
	var volumes []Volume
	for _, part := range report.Report {
		for _, row := range part.LV {
			v, err := row.volume()
			if err != nil {
				return nil, fmt.Errorf("reading what lvs says of %s/%s: %w", row.Group, row.Name, err)
			}
			volumes = append(volumes, v)
		}
	}
	return volumes, nil
}

func (r row) volume() (Volume, error) {
	p := parser{}
	v := Volume{
		Group: r.Group, Name: strings.Trim(r.Name, "[]"), UUID: r.UUID, Origin: r.Origin, Pool: r.Pool, Type: r.Type,
		Size: p.bytes(r.Size), Free: p.bytes(r.Free), Extent: p.bytes(r.Extent),
		Used: p.percent(r.Data), UsedMetadata: p.percent(r.Metadata),
		Invalid: r.Invalid == "snapshot invalid", Health: r.Health,
		major: p.number(r.Major), minor: p.number(r.Minor),
	}
	if r.Tags != "" {
		v.Tags = strings.Split(r.Tags, ",")
	}
	return v, p.err
}

// parser reads values and keeps the first error.
type parser struct{ err error }

func (p *parser) keep(err error) {
	if p.err == nil {
		p.err = err
	}
}

func (p *parser) bytes(text string) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	p.keep(err)
	return n
}

func (p *parser) number(text string) int {
	n, err := strconv.Atoi(text)
	p.keep(err)
	return n
}

// percent gives 0 where there is nothing of which there could be a percentage.
func (p *parser) percent(text string) float64 {
	if text == "" {
		return 0
	}
	f, err := strconv.ParseFloat(text, 64)
	p.keep(err)
	return f
}
