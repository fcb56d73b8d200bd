// Tells values to whoever runs this program: a line for each, marked with a word that is read at the start.
static class Tell {
    static string mark;

    public static void Open() {
        mark = System.Console.ReadLine();
    }

    public static void Value(int index, object value) {
        System.Console.Write("\n" + mark + " " + index + " " + Spell(value) + "\n");
        System.Console.Out.Flush();
    }

    static string Spell(object value) {
        var plain = System.Globalization.CultureInfo.InvariantCulture;
        if (value == null) return "null";
        if (value is bool) return (bool)value ? "true" : "false";
        if (value is string) return SpellText((string)value);
        if (value is char) return SpellText(value.ToString());
        if (value is double) return "[\"f\",\"" + ((double)value).ToString("R", plain) + "\"]";
        if (value is float) return "[\"f\",\"" + ((float)value).ToString("R", plain) + "\"]";
        var map = value as System.Collections.IDictionary;
        if (map != null) {
            var pairs = new System.Collections.Generic.List<string>();
            foreach (System.Collections.DictionaryEntry pair in map)
                pairs.Add("[" + Spell(pair.Key) + "," + Spell(pair.Value) + "]");
            return "[\"m\",[" + string.Join(",", pairs) + "]]";
        }
        var items = value as System.Collections.IEnumerable;
        if (items != null) {
            var spelled = new System.Collections.Generic.List<string>();
            foreach (object item in items) spelled.Add(Spell(item));
            bool isSet = value.GetType().Name.Contains("Set");
            return "[\"" + (isSet ? "s" : "l") + "\",[" + string.Join(",", spelled) + "]]";
        }
        return System.Convert.ToString(value, plain);
    }

    static string SpellText(string text) {
        byte[] bytes = System.Text.Encoding.UTF8.GetBytes(text);
        return "[\"x\",\"" + System.BitConverter.ToString(bytes).Replace("-", "").ToLowerInvariant() + "\"]";
    }
}
