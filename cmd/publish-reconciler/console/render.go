package console

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"mime"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"publish-reconciler/reconciler"
)

//go:embed templates/*.html
var templateFiles embed.FS

//go:embed assets
var assetFiles embed.FS

// handler serves one address. Its error becomes a page, too.
type handler func(w http.ResponseWriter, r *http.Request) error

// pageError is an error with its status, HTTP's, and words for people.
type pageError struct {
	status int
	text   string
}

func (e pageError) Error() string { return e.text }

func problem(status int, format string, args ...any) error {
	return pageError{status, fmt.Sprintf(format, args...)}
}

// policy allows what is the page's own, and nothing inline.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// page sets what every answer has, and shows errors.
func (c *Console) page(next handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := w.Header()
		header.Set("Content-Security-Policy", policy)
		header.Set("X-Content-Type-Options", "nosniff")
		header.Set("Referrer-Policy", "same-origin")
		header.Set("Cross-Origin-Opener-Policy", "same-origin")
		header.Set("Cache-Control", "no-store")
		if err := next(w, r); err != nil {
			c.showError(w, r, err)
		}
	})
}

// changing is what a read-only page refuses.
func (c *Console) changing(next handler) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		if c.cfg.ReadOnly {
			return problem(http.StatusForbidden, "This page is read-only (CONSOLE=readonly). Nothing was done.")
		}
		if r.Method == http.MethodPost {
			defer c.attention.forget()
		}
		return next(w, r)
	}
}

func (c *Console) showError(w http.ResponseWriter, r *http.Request, err error) {
	known, ok := errors.AsType[pageError](err)
	if !ok {
		known.status, known.text = c.cfg.Translate(err)
	}
	if known.status >= http.StatusInternalServerError {
		c.cfg.Logger.WarnContext(r.Context(), "page not served", "path", r.URL.Path, "err", err)
	}
	title := cmp.Or(map[int]string{
		http.StatusBadRequest: "That can’t be read", http.StatusUnauthorized: "Not logged in", http.StatusForbidden: "Not allowed",
		http.StatusNotFound: "Not found", http.StatusConflict: "Nothing changed", http.StatusRequestEntityTooLarge: "Too large", http.StatusServiceUnavailable: "Not available right now",
	}[known.status], http.StatusText(known.status))
	if err := c.render(w, r, known.status, "error.html", view{Title: title}, known.text); err != nil {
		c.cfg.Logger.WarnContext(r.Context(), "page not served", "path", r.URL.Path, "err", err)
	}
}

// view is what every page has.
type view struct {
	Title string
	// Section is the part of the navigation that it belongs to.
	Section string
	// Query is what stands in the search field.
	Query string
	// Chart: the page draws one.
	Chart bool

	// The rest is filled in by render.
	Page     any
	LoggedIn bool
	CanLogIn bool
	ReadOnly bool
	Version  string
	// Posted: the page answers a form.
	Posted bool
}

// render writes a page whole, or returns an error and writes nothing.
func (c *Console) render(w http.ResponseWriter, r *http.Request, status int, name string, v view, page any) error {
	v.Page, v.ReadOnly, v.Version, v.Posted = page, c.cfg.ReadOnly, c.cfg.Version, r.Method == http.MethodPost
	v.CanLogIn, v.LoggedIn = c.cfg.Token != "", c.hasSession(r)
	var text bytes.Buffer
	if err := templates[name].ExecuteTemplate(&text, "layout.html", v); err != nil {
		return problem(http.StatusInternalServerError, "The page can’t be made: %v", err)
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(text.Bytes())
	return nil
}

// templates are the pages by their file names, each with the layout.
var templates = parseTemplates()

func parseTemplates() map[string]*template.Template {
	shared := template.Must(template.New("").Funcs(functions).ParseFS(templateFiles, "templates/layout.html", "templates/parts.html"))
	files, err := templateFiles.ReadDir("templates")
	if err != nil {
		panic(err) // it is embedded
	}
	pages := make(map[string]*template.Template)
	for _, file := range files {
		if name := file.Name(); name != "layout.html" && name != "parts.html" {
			pages[name] = template.Must(template.Must(shared.Clone()).ParseFS(templateFiles, "templates/"+name))
		}
	}
	return pages
}

var functions = template.FuncMap{
	"asset": func(name string) string { return "/assets/" + name + "?v=" + assets[name].version },
	"time":  timeElement, "duration": duration, "number": number, "counted": counted,
	"shown": shown, "pretty": pretty, "isLink": isLink, "query": query, "words": words,
	"named":    func(name string, rows []reconciler.Row) namedRows { return namedRows{name, rows} },
	"sentence": func(text string) string { return capital(shown(text)) },
}

// namedRows are a table of logs. A page with several of them gives each a name of its own.
type namedRows struct {
	Name string
	Rows []reconciler.Row
}

// timeElement is a moment to the second, in UTC; a dash for none.
func timeElement(at any) template.HTML {
	t, ok := at.(time.Time)
	if p, pointer := at.(*time.Time); pointer && p != nil {
		t, ok = *p, true
	}
	if !ok || t.IsZero() || t.Year() > 9999 {
		return "–"
	}
	t = t.UTC()
	return template.HTML(`<time datetime="` + t.Format(time.RFC3339) + `">` + t.Format("2006-01-02 15:04:05") + `</time>`) //nolint:gosec // digits
}

// duration is as a person would say it, to two digits or so.
func duration(d time.Duration) string {
	switch {
	case d < time.Second:
		d = d.Round(time.Millisecond)
	case d < 10*time.Second:
		d = d.Round(100 * time.Millisecond)
	case d < time.Hour:
		d = d.Round(time.Second)
	default:
		d = d.Round(time.Minute)
	}
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// number has its thousands apart.
func number(n int) string {
	text := strconv.Itoa(n)
	for i := len(text) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

func counted(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return number(n) + " " + many
}

// capital begins as a sentence does.
func capital(text string) string {
	first, size := utf8.DecodeRuneInString(text)
	if size == 0 {
		return text
	}
	return string(unicode.ToUpper(first)) + text[size:]
}

// words is a name of the service's without its underscores.
func words(name any) string { return strings.ReplaceAll(shown(name), "_", " ") }

// shown is a text with all that would not be seen, or would turn its direction, written out.
func shown(value any) string {
	text := fmt.Sprint(value)
	if p, ok := value.(*string); ok {
		if text = ""; p != nil {
			text = *p
		}
	}
	var safe strings.Builder
	for len(text) > 0 {
		r, size := utf8.DecodeRuneInString(text)
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&safe, `\x%02x`, text[0])
		case r == '\n' || r == '\t' || unicode.IsPrint(r):
			safe.WriteRune(r)
		default:
			quoted := strconv.QuoteRune(r)
			safe.WriteString(quoted[1 : len(quoted)-1])
		}
		text = text[size:]
	}
	return safe.String()
}

// Indentation costs the depth for every element: 20 kB of brackets would become 200 MB. So JSON is indented up to
// maxIndented bytes and maxDepth levels, which makes it 33 times as long at most. Of any text maxPretty bytes are shown.
const (
	maxDepth    = 32
	maxIndented = 64 << 10
	maxPretty   = 256 << 10
)

// pretty is JSON over several lines, and any other text as it is, or its beginning.
func pretty(value any) string {
	raw := []byte(fmt.Sprint(value))
	switch v := value.(type) {
	case json.RawMessage:
		raw = v
	case []byte:
		raw = v
	}
	var text bytes.Buffer
	if len(raw) <= maxIndented && !isDeep(raw) && json.Indent(&text, raw, "", "  ") == nil {
		raw = text.Bytes()
	}
	if len(raw) > maxPretty {
		return shown(strings.ToValidUTF8(string(raw[:maxPretty]), "")) + "\n… and " + counted(len(raw)-maxPretty, "byte more", "bytes more")
	}
	return shown(string(raw))
}

// isDeep tells whether JSON has more than maxDepth levels.
func isDeep(raw []byte) bool {
	depth, quoted := 0, false
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '[' || c == '{':
			if depth++; depth > maxDepth {
				return true
			}
		case c == ']' || c == '}':
			depth--
		}
	}
	return false
}

// isLink tells whether an address leads to a web page: others, such as javascript:, are shown as text.
func isLink(address any) bool {
	u, err := url.Parse(shown(address))
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != ""
}

// query is an address's query, of names and values in turn; those without a value are left out.
func query(pairs ...any) (template.URL, error) {
	values := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		if value := fmt.Sprint(pairs[i+1]); value != "" {
			values.Set(fmt.Sprint(pairs[i]), value)
		}
	}
	if len(values) == 0 {
		return "", nil
	}
	return template.URL("?" + values.Encode()), nil //nolint:gosec // it is encoded
}

func quote(s string) string {
	const most = 80
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return strconv.Quote(s)
}

// asset is an embedded file. Its address changes with its content, so that browsers may keep it.
type asset struct {
	content     []byte
	contentType string
	version     string
}

var assets = readAssets()

func readAssets() map[string]asset {
	all := make(map[string]asset)
	entries, err := assetFiles.ReadDir("assets")
	if err != nil {
		panic(err) // it is embedded
	}
	for _, entry := range entries {
		content, err := assetFiles.ReadFile("assets/" + entry.Name())
		if err != nil {
			panic(err)
		}
		sum := sha256.Sum256(content)
		all[entry.Name()] = asset{content, cmp.Or(types[path.Ext(entry.Name())], "text/plain; charset=utf-8"), hex.EncodeToString(sum[:6])}
	}
	return all
}

// types are those of the assets: a machine's own table of them may be missing.
var types = map[string]string{
	".css": mime.FormatMediaType("text/css", map[string]string{"charset": "utf-8"}),
	".js":  mime.FormatMediaType("text/javascript", map[string]string{"charset": "utf-8"}),
	".svg": "image/svg+xml",
}

func (*Console) serveAsset(w http.ResponseWriter, r *http.Request) error {
	file, ok := assets[r.PathValue("name")]
	if !ok {
		return problem(http.StatusNotFound, "There is no such file.")
	}
	if r.URL.Query().Get("v") == file.version {
		w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	w.Header().Set("Content-Type", file.contentType)
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(file.content)
	return nil
}

func parseForm(r *http.Request) error {
	err := r.ParseForm()
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return problem(http.StatusRequestEntityTooLarge, "The form is larger than %s bytes. Nothing was done.", number(int(tooLarge.Limit)))
	}
	if err != nil {
		return problem(http.StatusBadRequest, "The form can’t be read: %v", err)
	}
	return nil
}
