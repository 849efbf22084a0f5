package lvm

import "testing"

const someReport = `  {
      "report": [
          {
              "lv": [
                  {"vg_name":"vg", "lv_name":"[pool_tmeta]", "lv_uuid":"xpgy2r", "lv_size":"4194304", "origin":"", "pool_lv":"", "lv_tags":"", "segtype":"linear", "lv_kernel_major":"-1", "lv_kernel_minor":"-1", "data_percent":"", "metadata_percent":"", "lv_snapshot_invalid":"unknown", "lv_health_status":"", "vg_free":"2558525440", "vg_extent_size":"4194304"},
                  {"vg_name":"vg", "lv_name":"s1", "lv_uuid":"2rKITQ", "lv_size":"20971520", "origin":"home", "pool_lv":"", "lv_tags":"rsince,rsince-owner-x", "segtype":"linear", "lv_kernel_major":"254", "lv_kernel_minor":"3", "data_percent":"100.00", "metadata_percent":"", "lv_snapshot_invalid":"snapshot invalid", "lv_health_status":"", "vg_free":"2558525440", "vg_extent_size":"4194304"}
              ]
          }
      ]
  }
`

func TestReport(t *testing.T) {
	all, err := parseReport([]byte(someReport))
	if err != nil || len(all) != 2 {
		t.Fatalf("%+v, %v", all, err)
	}
	hidden, snapshot := all[0], all[1]
	if hidden.Name != "pool_tmeta" || hidden.major != -1 || hidden.Tags != nil || hidden.Invalid {
		t.Errorf("%+v", hidden)
	}
	if !snapshot.Invalid || snapshot.Used != 100 || snapshot.Origin != "home" || len(snapshot.Tags) != 2 || snapshot.Size != 20<<20 {
		t.Errorf("%+v", snapshot)
	}
}

func FuzzReport(f *testing.F) {
	f.Add([]byte(someReport))
	f.Fuzz(func(t *testing.T, text []byte) {
		if all, err := parseReport(text); err != nil && all != nil {
			t.Errorf("%+v with %v", all, err)
		}
	})
}
