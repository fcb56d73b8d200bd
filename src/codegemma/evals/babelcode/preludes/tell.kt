// Tells values to whoever runs this program: a line for each, marked with a word that is read at the start.
object tell {
    private var mark: String? = null

    fun open() {
        mark = readLine()
    }

    fun value(index: Int, value: Any?) {
        print("\n$mark $index ${spell(value)}\n")
        System.out.flush()
    }

    private fun spell(value: Any?): String = when (value) {
        is String -> spellText(value)
        is Char -> spellText(value.toString())
        is Double, is Float -> "[\"f\",\"$value\"]"
        is Map<*, *> -> value.entries.joinToString(",", "[\"m\",[", "]]") { "[${spell(it.key)},${spell(it.value)}]" }
        is Set<*> -> value.joinToString(",", "[\"s\",[", "]]") { spell(it) }
        is Collection<*> -> value.joinToString(",", "[\"l\",[", "]]") { spell(it) }
        is Pair<*, *> -> "[\"l\",[${spell(value.first)},${spell(value.second)}]]"
        else -> value.toString()
    }

    private fun spellText(text: String): String {
        val bytes = text.toByteArray(Charsets.UTF_8)
        return bytes.joinToString("", "[\"x\",\"", "\"]") { String.format("%02x", it.toInt() and 255) }
    }
}
