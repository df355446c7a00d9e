package cfi

import (
	"debug/elf"
	"testing"
)

// The first row of a library, by the list of its header and by reading all entries.
func BenchmarkFirst(b *testing.B) {
	for _, path := range []string{"/lib/x86_64-linux-gnu/libc.so.6", "/usr/bin/python3", "/usr/lib/jvm/java-17-openjdk-amd64/lib/server/libjvm.so", "/usr/bin/node"} {
		f, err := elf.Open(path)
		if err != nil {
			continue
		}
		defer f.Close()
		m, word := image(b, f)
		hdr, eh, text := f.Section(".eh_frame_hdr"), f.Section(".eh_frame"), f.Section(".text")
		pc := text.Addr + text.Size/2
		b.Run("header"+path, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				t, err := Header(m, hdr.Addr, hdr.Size, eh.Addr+eh.Size, word, nil)
				if err != nil {
					b.Fatal(err)
				}
				_, _ = t.Find(pc, nil)
			}
		})
		b.Run("section"+path, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _ = Section(m, eh.Addr, eh.Addr+eh.Size, word, false, nil).Find(pc, nil)
			}
		})
	}
}
