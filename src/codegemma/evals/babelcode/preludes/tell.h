// Tells values to whoever runs this program: a line for each, marked with a word that is read at the start.
#include <bits/stdc++.h>

namespace tell {

static std::string mark;

inline void open() { std::getline(std::cin, mark); }

inline std::string spell(bool value) { return value ? "true" : "false"; }
inline std::string spell(int value) { return std::to_string(value); }
inline std::string spell(unsigned value) { return std::to_string(value); }
inline std::string spell(long value) { return std::to_string(value); }
inline std::string spell(unsigned long value) { return std::to_string(value); }
inline std::string spell(long long value) { return std::to_string(value); }
inline std::string spell(double value) {
    char text[64];
    std::snprintf(text, sizeof text, "[\"f\",\"%.17g\"]", value);
    return text;
}
inline std::string spell(float value) { return spell(double(value)); }

inline std::string spell(const std::string &value) {
    std::string text = "[\"x\",\"";
    for (unsigned char byte : value) {
        char pair[3];
        std::snprintf(pair, sizeof pair, "%02x", byte);
        text += pair;
    }
    return text + "\"]";
}
inline std::string spell(char value) { return spell(std::string(1, value)); }
inline std::string spell(const char *value) { return spell(std::string(value)); }

template <class A, class B> std::string spell(const std::pair<A, B> &value);
template <class T, class A> std::string spell(const std::vector<T, A> &value);
template <class T> std::string spell(const std::set<T> &value);
template <class T> std::string spell(const std::unordered_set<T> &value);
template <class K, class V> std::string spell(const std::map<K, V> &value);
template <class K, class V> std::string spell(const std::unordered_map<K, V> &value);

template <class C> std::string spell_items(const char *tag, const C &items) {
    std::string text = std::string("[\"") + tag + "\",[";
    bool is_first = true;
    for (const auto &item : items) {
        if (!is_first) text += ",";
        is_first = false;
        text += spell(item);
    }
    return text + "]]";
}
template <class A, class B> std::string spell(const std::pair<A, B> &value) {
    return "[" + spell(value.first) + "," + spell(value.second) + "]";
}
template <class T, class A> std::string spell(const std::vector<T, A> &value) { return spell_items("l", value); }
template <class T> std::string spell(const std::set<T> &value) { return spell_items("s", value); }
template <class T> std::string spell(const std::unordered_set<T> &value) { return spell_items("s", value); }
template <class K, class V> std::string spell(const std::map<K, V> &value) { return spell_items("m", value); }
template <class K, class V> std::string spell(const std::unordered_map<K, V> &value) { return spell_items("m", value); }

template <class T> void value(int index, const T &value) {
    std::cout << "\n" << mark << " " << index << " " << spell(value) << "\n" << std::flush;
}

} // namespace tell
