package streams_test

import (
	"testing"

	"publish-reconciler/streams"
)

func BenchmarkDecodeWebhook(b *testing.B) {
	for name, body := range map[string]string{"instagram": instagramBody, "tiktok": tiktokBody} {
		b.Run(name, func(b *testing.B) {
			subject, body := "publish.webhook."+name, []byte(body)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := streams.DecodeWebhook(subject, body); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkDecodeCheck(b *testing.B) {
	for name, body := range map[string]string{"empty": "", "with patience": `{"timeout_minutes":5}`} {
		b.Run(name, func(b *testing.B) {
			body := []byte(body)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := streams.DecodeCheck("publish.check.6f1c2d3e-4b5a-4978-8f6e-5d4c3b2a1908", body); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
