import java.io.BufferedReader;
import java.io.ByteArrayOutputStream;
import java.io.FileInputStream;
import java.io.FileOutputStream;
import java.io.InputStreamReader;
import java.io.OutputStreamWriter;
import java.io.PrintStream;
import java.io.Writer;
import java.lang.reflect.Method;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import javax.tools.JavaCompiler;
import javax.tools.StandardJavaFileManager;
import javax.tools.StandardLocation;
import javax.tools.ToolProvider;

/**
 * A compiler that stays in memory: one line asks for a folder's sources to be compiled, one line answers.
 *
 * Arguments: java or kotlin, and the numbers of the open pipes for questions and answers. A question is the folder for
 * the classes and the sources, apart by tabs. An answer is "ok" or "error" and what the compiler said, on one line.
 */
public final class WarmCompiler {
    public static void main(String[] arguments) throws Exception {
        String pipes = "/proc/self/fd/";
        BufferedReader questions = new BufferedReader(
            new InputStreamReader(new FileInputStream(pipes + arguments[1]), StandardCharsets.UTF_8));
        PrintStream answers = new PrintStream(new FileOutputStream(pipes + arguments[2]), true, "UTF-8");
        Compiler compiler = arguments[0].equals("kotlin") ? new Kotlin() : new Java();
        for (String line = questions.readLine(); line != null; line = questions.readLine()) {
            ByteArrayOutputStream said = new ByteArrayOutputStream();
            List<String> parts = new ArrayList<>(List.of(line.split("\t")));
            String folder = parts.remove(0);
            boolean isCompiled = false;
            try {
                isCompiled = compiler.compile(folder, parts, said);
            } catch (Throwable error) {
                Throwable cause = error.getCause() == null ? error : error.getCause();
                said.writeBytes(cause.toString().getBytes(StandardCharsets.UTF_8));
            }
            String text = said.toString(StandardCharsets.UTF_8).replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "");
            answers.println((isCompiled ? "ok " : "error ") + text.substring(0, Math.min(text.length(), 60000)));
        }
    }

    private interface Compiler {
        boolean compile(String folder, List<String> sources, ByteArrayOutputStream said) throws Exception;
    }

    private static final class Java implements Compiler {
        private final JavaCompiler compiler = ToolProvider.getSystemJavaCompiler();
        private final StandardJavaFileManager files = compiler.getStandardFileManager(null, null, StandardCharsets.UTF_8);

        Java() throws Exception {
            files.setLocationFromPaths(StandardLocation.CLASS_PATH, List.of(Path.of(System.getProperty("prelude"))));
        }

        public boolean compile(String folder, List<String> sources, ByteArrayOutputStream said) throws Exception {
            files.setLocationFromPaths(StandardLocation.CLASS_OUTPUT, List.of(Path.of(folder)));
            Writer writer = new OutputStreamWriter(said, StandardCharsets.UTF_8);
            List<String> options = List.of("-proc:none", "-nowarn", "-Xlint:none", "-g:none");
            boolean isCompiled = compiler
                .getTask(writer, files, null, options, null, files.getJavaFileObjectsFromStrings(sources)).call();
            writer.flush();
            return isCompiled;
        }
    }

    /** Called by name, so that this file compiles where there is no Kotlin. */
    private static final class Kotlin implements Compiler {
        private final Class<?> kind = Class.forName("org.jetbrains.kotlin.cli.jvm.K2JVMCompiler");
        private final Object compiler = kind.getDeclaredConstructor().newInstance();
        private final Method exec = kind.getMethod("exec", PrintStream.class, String[].class);

        Kotlin() throws Exception {}

        public boolean compile(String folder, List<String> sources, ByteArrayOutputStream said) throws Exception {
            List<String> command = new ArrayList<>(List.of(
                "-nowarn", "-no-reflect", "-kotlin-home", "/usr/share/kotlin/kotlinc",
                "-cp", System.getProperty("prelude"), "-d", folder));
            command.addAll(sources);
            Object code = exec.invoke(compiler, new PrintStream(said, true, "UTF-8"), command.toArray(new String[0]));
            return code.toString().equals("OK");
        }
    }
}
