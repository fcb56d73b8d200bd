// Tells values to whoever runs this program: a line for each, marked with a word that is read at the start.
package main

import (
	tellBufio "bufio"
	tellHex "encoding/hex"
	tellFmt "fmt"
	tellOs "os"
	tellReflect "reflect"
	tellStrconv "strconv"
	tellStrings "strings"
)

var tellMark string

func tellOpen() {
	line, _ := tellBufio.NewReader(tellOs.Stdin).ReadString('\n')
	tellMark = tellStrings.TrimSpace(line)
}

func tellValue(index int, value any) {
	tellFmt.Printf("\n%s %d %s\n", tellMark, index, tellSpell(tellReflect.ValueOf(value)))
}

func tellSpell(value tellReflect.Value) string {
	switch value.Kind() {
	case tellReflect.Bool:
		return tellStrconv.FormatBool(value.Bool())
	case tellReflect.Int32:
		// A rune, too, is an int32: what was asked for says which.
		return tellFmt.Sprintf("[\"r\",%d]", value.Int())
	case tellReflect.Int, tellReflect.Int8, tellReflect.Int16, tellReflect.Int64:
		return tellStrconv.FormatInt(value.Int(), 10)
	case tellReflect.Uint, tellReflect.Uint8, tellReflect.Uint16, tellReflect.Uint32, tellReflect.Uint64:
		return tellStrconv.FormatUint(value.Uint(), 10)
	case tellReflect.Float32, tellReflect.Float64:
		return "[\"f\",\"" + tellStrconv.FormatFloat(value.Float(), 'g', -1, 64) + "\"]"
	case tellReflect.String:
		return "[\"x\",\"" + tellHex.EncodeToString([]byte(value.String())) + "\"]"
	case tellReflect.Slice, tellReflect.Array:
		if value.Kind() == tellReflect.Slice && value.IsNil() {
			return "[\"n\",\"l\"]"
		}
		items := []string{}
		for i := 0; i < value.Len(); i++ {
			items = append(items, tellSpell(value.Index(i)))
		}
		return "[\"l\",[" + tellStrings.Join(items, ",") + "]]"
	case tellReflect.Map:
		if value.IsNil() {
			return "[\"n\",\"m\"]"
		}
		pairs := []string{}
		for _, key := range value.MapKeys() {
			pairs = append(pairs, "["+tellSpell(key)+","+tellSpell(value.MapIndex(key))+"]")
		}
		return "[\"m\",[" + tellStrings.Join(pairs, ",") + "]]"
	}
	return "null"
}
