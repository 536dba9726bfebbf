package browser

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/console"
	"github.com/ezq-go/ezq/internal/demo"
)

var screenshots = flag.String("screenshots", "", "write the pictures of the documentation into this directory")

// TestScreenshots_AreThoseOfTheDemo makes the pictures of the documentation: make screenshots.
func TestScreenshots_AreThoseOfTheDemo(t *testing.T) {
	if *screenshots == "" {
		t.Skip("pictures are made by: make screenshots")
	}
	shop := demo.New(1)
	ctx, stop := context.WithCancel(t.Context())
	closed := make(chan error, 1)
	go func() { closed <- shop.Run(ctx) }()
	b := newTab(t, serve(t, shop.Broker(), console.Everything()))
	b.visit("/")
	b.await("there are rates", `[...document.querySelectorAll("td.wide")].filter(e => /[0-9]/.test(e.textContent)).length > 6`)
	b.await("parcels wait", `[...document.querySelectorAll("tr")].some(e => e.textContent.includes("shipping") && !e.querySelector("td.n.zero"))`)

	found, err := shop.Broker().DeadLetters(ctx, demo.Orders+backend.DeadLetterSuffix, backend.DeadLetterSelection{Reason: "has expired"})
	check(t, err)
	for name, path := range map[string]string{
		"queues": "/?live=off",
		"dead":   "/dead?topic=orders_dead",
		"letter": fmt.Sprint("/letter?topic=orders_dead&row=", found[0].Row),
		"event":  "/event?id=import-Assam",
	} {
		for scheme, dark := range map[string]bool{"light": false, "dark": true} {
			b.dark(dark)
			b.do(chromedp.EmulateViewport(1080, map[bool]int64{false: 620, true: 860}[name == "event"]))
			b.visit(path)
			picture, err := chromedp.Run(b.ctx, chromedp.CaptureScreenshot())
			check(t, err)
			check(t, os.WriteFile(filepath.Join(*screenshots, "console-"+name+"-"+scheme+".png"), small(t, picture), 0o644))
		}
	}
	stop()
	check(t, <-closed)
}

// small returns a picture with no more than 256 colors, those of which there is most: text on plain ground has few.
func small(t *testing.T, picture []byte) []byte {
	t.Helper()
	full, err := png.Decode(bytes.NewReader(picture))
	check(t, err)
	count := map[color.RGBA]int{}
	for y := full.Bounds().Min.Y; y < full.Bounds().Max.Y; y++ {
		for x := full.Bounds().Min.X; x < full.Bounds().Max.X; x++ {
			count[color.RGBAModel.Convert(full.At(x, y)).(color.RGBA)]++
		}
	}
	most := slices.SortedFunc(maps.Keys(count), func(a, b color.RGBA) int { return count[b] - count[a] })
	var colors color.Palette
	for _, c := range most[:min(len(most), 256)] {
		colors = append(colors, c)
	}
	paletted := image.NewPaletted(full.Bounds(), colors)
	draw.Draw(paletted, full.Bounds(), full, full.Bounds().Min, draw.Src)
	var out bytes.Buffer
	check(t, (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&out, paletted))
	return out.Bytes()
}
