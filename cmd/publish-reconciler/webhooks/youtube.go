package webhooks

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
)

// The names of what YouTube's hub sends: an Atom feed (RFC 4287) with YouTube's own elements, and with tombstones (RFC
// 6721) for what is gone. "Subscribe to Push Notifications",
// https://developers.google.com/youtube/v3/guides/push_notifications.
const (
	nsAtom      = "http://www.w3.org/2005/Atom"
	nsYouTube   = "http://www.youtube.com/xml/schemas/2015"
	nsTombstone = "http://purl.org/atompub/tombstones/1.0"

	// videoRef begins the ref of a tombstone, an entry's atom:id.
	videoRef = "yt:video:"
)

// maxDepth is how deep elements may lie in each other: a feed needs five.
const maxDepth = 32

type atomEntry struct {
	VideoID   string `xml:"http://www.youtube.com/xml/schemas/2015 videoId"`
	ChannelID string `xml:"http://www.youtube.com/xml/schemas/2015 channelId"`
	Published string `xml:"http://www.w3.org/2005/Atom published"`
}

type atomTombstone struct {
	Ref  string `xml:"ref,attr"`
	When string `xml:"when,attr"`
}

// ownsAtom tells a feed from JSON, whatever its Content-Type.
func ownsAtom(body []byte) bool {
	return bytes.HasPrefix(bytes.TrimLeft(bytes.TrimPrefix(body, []byte("\xef\xbb\xbf")), " \t\r\n"), []byte("<"))
}

// part is an entry or a tombstone of a feed.
type part struct {
	entry     atomEntry
	tombstone *atomTombstone
	text      string
}

// readAtom reads a feed. The identity of a publication is the video and when it was published, so that an edit, which has
// another updated, is its duplicate; and the message of an edit brings nothing new.
func readAtom(kept raw) (Batch, error) {
	parts, err := partsOf(kept.Body)
	if err != nil {
		return Batch{}, fmt.Errorf("the body is not an Atom feed: %w", err)
	}
	var batch Batch
	for _, p := range parts {
		if len(parts) > 1 {
			kept.Body = p.text
		}
		event, err := p.event(kept)
		if err != nil {
			return Batch{}, err
		}
		batch.add(event)
	}
	if len(parts) == 0 {
		batch.Ignored = 1
	}
	return batch, nil
}

func (p part) event(kept raw) (Event, error) {
	status, video, at := statusPublished, strings.TrimSpace(p.entry.VideoID), strings.TrimSpace(p.entry.Published)
	if p.tombstone != nil {
		status, at = statusRemoved, p.tombstone.When
		video, _ = strings.CutPrefix(p.tombstone.Ref, videoRef)
		if video == p.tombstone.Ref {
			return Event{}, fmt.Errorf("a deleted-entry refers to %s: it must be %sVIDEO_ID", quote(video), videoRef)
		}
	}
	if video == "" {
		return Event{}, missing("an entry", "yt:videoId")
	}
	event, err := newEvent(YouTube, video, status, identity(YouTube, status, video, at), kept,
		field{"videoId", video},
		field{"channelId", strings.TrimSpace(p.entry.ChannelID)},
		field{"timestamp", at},
	)
	if err != nil {
		return Event{}, fmt.Errorf("yt:videoId: %w", err)
	}
	return event, nil
}

var errDeep = fmt.Errorf("its elements lie more than %d deep in each other", maxDepth)

// partsOf reads a feed's entries and tombstones. encoding/xml knows no entities but XML's own five; a document type is
// refused all the same, and so is any encoding but UTF-8.
func partsOf(body string) (parts []part, err error) {
	if err := checkDepth(body); err != nil {
		return nil, err
	}
	decoder := xml.NewDecoder(strings.NewReader(body))
	root := false
	for {
		start := decoder.InputOffset()
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) && root {
			return parts, nil
		}
		if err != nil {
			return nil, err
		}
		element, isStart := token.(xml.StartElement)
		if !isStart {
			continue
		}
		if !root {
			if root = element.Name == (xml.Name{Space: nsAtom, Local: "feed"}); !root {
				return nil, fmt.Errorf("it is a %s: it must be a feed of %s", quote(element.Name.Local), nsAtom)
			}
			continue
		}
		var p part
		switch element.Name {
		case xml.Name{Space: nsAtom, Local: "entry"}:
			err = decoder.DecodeElement(&p.entry, &element)
		case xml.Name{Space: nsTombstone, Local: "deleted-entry"}:
			p.tombstone = &atomTombstone{}
			err = decoder.DecodeElement(p.tombstone, &element)
		default:
			if err := decoder.Skip(); err != nil {
				return nil, err
			}
			continue
		}
		if err != nil {
			return nil, err
		}
		p.text = body[start:decoder.InputOffset()]
		parts = append(parts, p)
	}
}

func checkDepth(body string) error {
	decoder := xml.NewDecoder(strings.NewReader(body))
	for depth := 0; ; {
		token, err := decoder.RawToken()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		switch token.(type) {
		case xml.StartElement:
			if depth++; depth > maxDepth {
				return errDeep
			}
		case xml.EndElement:
			depth--
		case xml.Directive:
			return errors.New("it has a document type")
		}
	}
}
