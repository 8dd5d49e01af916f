package reconciler

import (
	"encoding/json"
	"testing"
	"time"
)

func BenchmarkDecide(b *testing.B) {
	fields := map[string]any{"external_post_id": "ig_123", "status": "published", "media_url": "https://instagram.com/p/ABC/", "likes": json.Number("3")}
	log := Log{ID: logID(1), Status: StatusProcessing, Post: Post{Platform: "instagram", ExternalPostID: "ig_123"}, UpdatedAt: noon}
	final := log
	final.Status = StatusSuccess
	for name, situation := range map[string]struct {
		log     Log
		webhook bool
		now     time.Time
	}{
		"confirmed": {log, true, noon},
		"timed out": {log, false, noon.Add(time.Hour)},
		"final":     {final, false, noon.Add(time.Hour)},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				question := Question{Trigger: TriggerCheck}
				if situation.webhook {
					evidence := ReadWebhook("instagram", fields, noon)
					question = Question{Trigger: TriggerWebhook, Webhook: &evidence}
				}
				Decide(situation.log, question, patient, situation.now)
			}
		})
	}
}
