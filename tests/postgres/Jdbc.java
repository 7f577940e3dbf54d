import java.math.BigDecimal;
import java.sql.Connection;
import java.sql.DatabaseMetaData;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.time.OffsetDateTime;
import java.util.TreeSet;

/** PostgreSQL's JDBC driver against Outlay. Arguments: HOST PORT KEY. */
public class Jdbc {
    static void check(boolean holds, Object found) {
        if (!holds) throw new AssertionError(found);
    }

    public static void main(String[] arguments) throws Exception {
        String url = "jdbc:postgresql://" + arguments[0] + ":" + arguments[1] + "/outlay";
        try (Connection session = DriverManager.getConnection(url, "jdbc", arguments[2])) {
            DatabaseMetaData about = session.getMetaData();
            check(about.getDatabaseMajorVersion() == 16, about.getDatabaseProductVersion());
            TreeSet<String> views = new TreeSet<>();
            try (ResultSet rows = about.getTables(null, "public", "%", new String[] {"TABLE", "VIEW"})) {
                while (rows.next()) views.add(rows.getString("TABLE_NAME"));
            }
            check(views.contains("usage") && views.contains("audit"), views);
            int columns = 0;
            try (ResultSet rows = about.getColumns(null, "public", "usage", "%")) {
                while (rows.next()) {
                    columns++;
                    if (rows.getString("COLUMN_NAME").equals("cost")) {
                        check(rows.getString("TYPE_NAME").equals("numeric") && rows.getInt("DECIMAL_DIGITS") == 12, rows.getInt("COLUMN_SIZE"));
                    }
                }
            }
            check(columns > 30, columns);
            try (ResultSet rows = about.getPrimaryKeys(null, "public", "usage")) { check(!rows.next(), "a primary key"); }
            try (ResultSet rows = about.getIndexInfo(null, "public", "usage", false, true)) { check(!rows.next(), "an index"); }
            try (ResultSet rows = about.getSchemas()) { check(rows.next(), "no schemas"); }
            try (ResultSet rows = about.getTypeInfo()) { check(rows.next(), "no types"); }
            try (ResultSet rows = about.getImportedKeys(null, "public", "usage")) { check(!rows.next(), "a foreign key"); }
            try (ResultSet rows = about.getFunctions(null, "public", "%")) { check(!rows.next(), "a function"); }
            check(about.getSQLKeywords().contains("ilike"), about.getSQLKeywords());

            // More often than the driver's threshold, after which it names the statement and asks for binary values.
            String query = "select namespace, total_tokens, cost, time, late from usage where id = ? and total_tokens > ? and time < ?";
            try (PreparedStatement statement = session.prepareStatement(query)) {
                for (int again = 0; again < 8; again++) {
                    statement.setString(1, "priced");
                    statement.setLong(2, 10);
                    statement.setObject(3, OffsetDateTime.now().plusDays(1));
                    try (ResultSet rows = statement.executeQuery()) {
                        check(rows.next(), "no row");
                        check(rows.getString(1).equals("lab") && rows.getLong(2) == 1000, rows.getString(1));
                        check(rows.getBigDecimal(3).equals(new BigDecimal("0.001250000000")), rows.getBigDecimal(3));
                        check(rows.getObject(4, OffsetDateTime.class).isAfter(OffsetDateTime.now().minusDays(1)), rows.getString(4));
                        check(!rows.getBoolean(5) && !rows.next(), "another row");
                    }
                }
            }

            // In a transaction with a fetch size the driver takes a portal's rows in parts.
            session.setReadOnly(true);
            session.setAutoCommit(false);
            try (Statement statement = session.createStatement()) {
                statement.setFetchSize(1000);
                long rows = 0, sum = 0;
                try (ResultSet result = statement.executeQuery("select value from generate_series(1, 10500)")) {
                    while (result.next()) { rows++; sum += result.getLong(1); }
                }
                check(rows == 10500 && sum == 10500L * 10501 / 2, rows);
            }
            session.commit();
            session.setAutoCommit(true);
            try (Statement statement = session.createStatement()) {
                statement.executeUpdate("delete from usage");
                throw new AssertionError("something was deleted");
            } catch (SQLException error) {
                check(error.getSQLState().equals("25006"), error);
            }
            try (Statement statement = session.createStatement()) {
                statement.setQueryTimeout(1);
                statement.executeQuery("select count(*) from generate_series(1, 2000000) a, generate_series(1, 2000000) b where a.value + b.value = 3");
                throw new AssertionError("an endless query ended");
            } catch (SQLException error) {
                check(error.getSQLState().equals("57014"), error);
            }
        }
        System.out.println("ok");
    }
}
