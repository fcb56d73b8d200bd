import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.Collection;
import java.util.Map;
import java.util.Set;

/** Tells values to whoever runs this program: a line for each, marked with a word that is read at the start. */
public final class Tell {
    private static String mark;

    public static void open() throws Exception {
        mark = new BufferedReader(new InputStreamReader(System.in)).readLine();
    }

    public static void value(int index, Object value) {
        StringBuilder line = new StringBuilder("\n" + mark + " " + index + " ");
        spell(value, line);
        PrintStream out = System.out;
        out.print(line.append("\n"));
        out.flush();
    }

    private static void spell(Object value, StringBuilder line) {
        if (value instanceof String || value instanceof Character) {
            line.append("[\"x\",\"");
            for (byte b : value.toString().getBytes(StandardCharsets.UTF_8)) {
                line.append(Character.forDigit(b >> 4 & 15, 16)).append(Character.forDigit(b & 15, 16));
            }
            line.append("\"]");
        } else if (value instanceof Double || value instanceof Float) {
            line.append("[\"f\",\"").append(value).append("\"]");
        } else if (value instanceof Map) {
            line.append("[\"m\",[");
            String comma = "";
            for (Map.Entry<?, ?> pair : ((Map<?, ?>) value).entrySet()) {
                line.append(comma).append("[");
                spell(pair.getKey(), line);
                line.append(",");
                spell(pair.getValue(), line);
                line.append("]");
                comma = ",";
            }
            line.append("]]");
        } else if (value instanceof Collection) {
            line.append(value instanceof Set ? "[\"s\",[" : "[\"l\",[");
            String comma = "";
            for (Object item : (Collection<?>) value) {
                line.append(comma);
                spell(item, line);
                comma = ",";
            }
            line.append("]]");
        } else {
            line.append(value);
        }
    }
}
