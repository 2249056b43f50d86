// What people do with pgjdbc. Everything printed must be the same through the proxy and without it.

import java.io.StringReader;
import java.io.StringWriter;
import java.math.BigDecimal;
import java.sql.*;
import java.util.*;
import org.postgresql.PGConnection;
import org.postgresql.PGNotification;
import org.postgresql.copy.CopyManager;
import org.postgresql.largeobject.LargeObject;
import org.postgresql.largeobject.LargeObjectManager;
import org.postgresql.util.PSQLException;
import org.postgresql.util.ServerErrorMessage;

public class Features {
    interface Work {
        void run() throws Exception;
    }

    static void show(Object... what) {
        StringBuilder line = new StringBuilder();
        for (Object one : what) line.append(one instanceof int[] ? Arrays.toString((int[]) one) : one).append(" | ");
        System.out.println(line);
    }

    static void told(Work work) throws Exception {
        try {
            work.run();
            show("no error");
        } catch (BatchUpdateException error) {
            show("batch", error.getSQLState(), error.getUpdateCounts(), error.getMessage());
        } catch (PSQLException error) {
            ServerErrorMessage m = error.getServerErrorMessage();
            show(error.getSQLState(), error.getMessage(), m == null ? null : m.getPosition(), m == null ? null : m.getConstraint());
        }
    }

    static Connection open(String options) throws SQLException {
        String url = "jdbc:postgresql://" + System.getenv("PGHOST") + ":" + System.getenv("PGPORT") + "/"
                + System.getenv("PGDATABASE") + "?user=postgres&ApplicationName=features" + options;
        return DriverManager.getConnection(url);
    }

    static void rows(ResultSet r) throws SQLException {
        ResultSetMetaData meta = r.getMetaData();
        while (r.next()) {
            List<Object> row = new ArrayList<>();
            for (int n = 1; n <= meta.getColumnCount(); n++) row.add(meta.getColumnName(n) + "=" + r.getString(n));
            show(row);
        }
    }

    static void warnings(SQLWarning warning) {
        for (; warning != null; warning = warning.getNextWarning()) show("warning", warning.getSQLState(), warning.getMessage());
    }

    static void statements(Connection c) throws Exception {
        Statement s = c.createStatement();
        rows(s.executeQuery("SELECT 1 AS a, 'x' AS b, NULL AS c, 1.50::numeric AS d, now() - now() AS e"));
        // Several results of one call.
        boolean result = s.execute("SELECT 1 AS a; UPDATE users SET tenant = 5 WHERE id < 3; SELECT 'z' AS b");
        while (result || s.getUpdateCount() != -1) {
            if (result) rows(s.getResultSet());
            else show("count", s.getUpdateCount());
            result = s.getMoreResults();
        }
        s.execute("DO $$ BEGIN RAISE NOTICE 'hello'; RAISE WARNING 'careful'; END $$");
        warnings(s.getWarnings());
        // After five executions pgjdbc names the statement, and asks for binary results.
        try (PreparedStatement p = c.prepareStatement("SELECT id, tenant FROM users WHERE id = ?");
                PreparedStatement u = c.prepareStatement("UPDATE users SET tenant = ? WHERE id = ?")) {
            for (int n = 1; n < 10; n++) {
                u.setInt(1, n * 3);
                u.setLong(2, n);
                p.setLong(1, n);
                show(u.executeUpdate());
                rows(p.executeQuery());
            }
            show(p.getParameterMetaData().getParameterTypeName(1), p.getMetaData().getColumnTypeName(1));
        }
        try (PreparedStatement p = c.prepareStatement("SELECT ?::numeric, ?::text, ?::date, ?::int[], ?::uuid, ?::bytea, ?::timestamptz")) {
            p.setBigDecimal(1, new BigDecimal("12345678901234567890.123456789"));
            p.setString(2, "it's ☃");
            p.setDate(3, java.sql.Date.valueOf("2024-02-29"));
            p.setArray(4, c.createArrayOf("int4", new Integer[] {1, null, 3}));
            p.setObject(5, new UUID(0, 7));
            p.setBytes(6, new byte[] {0, (byte) 255});
            p.setObject(7, java.time.OffsetDateTime.of(2024, 2, 29, 12, 0, 0, 0, java.time.ZoneOffset.UTC));
            for (int n = 0; n < 6; n++) {
                ResultSet r = p.executeQuery();
                r.next();
                show(r.getBigDecimal(1), r.getString(2), r.getDate(3), Arrays.toString((Object[]) r.getArray(4).getArray()),
                        r.getObject(5), Arrays.toString(r.getBytes(6)), r.getObject(7, java.time.OffsetDateTime.class));
            }
        }
        try (PreparedStatement p = c.prepareStatement("INSERT INTO users (id, tenant) VALUES (?, ?)", new String[] {"id", "n"})) {
            for (int n = 0; n < 200; n++) {
                p.setInt(1, 5000 + n);
                p.setInt(2, n);
                p.addBatch();
            }
            show(p.executeBatch().length);
            ResultSet keys = p.getGeneratedKeys();
            keys.next();
            show(keys.getLong(1), keys.getInt(2));
        }
        s.addBatch("UPDATE users SET tenant = 1 WHERE id = 5000");
        s.addBatch("DELETE FROM users WHERE id > 5100");
        show(s.executeBatch());
        told(() -> {
            try (PreparedStatement p = c.prepareStatement("INSERT INTO users (id) VALUES (?)")) {
                for (int id : new int[] {7000, 7001, 1, 7002}) {
                    p.setInt(1, id);
                    p.addBatch();
                }
                p.executeBatch();
            }
        });
        rows(s.executeQuery("SELECT count(*) FROM users WHERE id >= 7000"));
        try (CallableStatement call = c.prepareCall("{? = call upper(?)}")) {
            call.registerOutParameter(1, Types.VARCHAR);
            call.setString(2, "loud");
            call.execute();
            show(call.getString(1));
        }
        Statement updatable = c.createStatement(ResultSet.TYPE_SCROLL_INSENSITIVE, ResultSet.CONCUR_UPDATABLE);
        ResultSet r = updatable.executeQuery("SELECT id, tenant FROM users WHERE id < 4 ORDER BY id");
        r.absolute(2);
        r.updateInt("tenant", 77);
        r.updateRow();
        r.last();
        r.deleteRow();
        rows(s.executeQuery("SELECT id, tenant FROM users WHERE id < 5 ORDER BY id"));
    }

    static void errors(Connection c) throws Exception {
        Statement s = c.createStatement();
        told(() -> s.execute("SELECT nothing FROM users"));
        told(() -> s.execute("SELECT 1 / 0"));
        told(() -> s.execute("INSERT INTO users (id) VALUES (1)"));
        told(() -> s.execute("SELEC 1"));
        told(() -> s.execute("SELECT 1; SELECT nothing; SELECT 2"));
        told(() -> {
            PreparedStatement p = c.prepareStatement("SELECT ?::int");
            p.setString(1, "x");
            p.executeQuery();
        });
        s.setQueryTimeout(1);
        told(() -> s.execute("SELECT pg_sleep(60)"));
        s.setQueryTimeout(0);
        rows(s.executeQuery("SELECT 'after the cancel' AS s"));
    }

    static void transactions(Connection c) throws Exception {
        c.setAutoCommit(false);
        Statement s = c.createStatement();
        show(s.executeUpdate("INSERT INTO users (id) VALUES (9000)"));
        Savepoint savepoint = c.setSavepoint("here");
        told(() -> s.execute("INSERT INTO users (id) VALUES (9000)"));
        told(() -> s.execute("SELECT 1"));
        c.rollback(savepoint);
        c.commit();
        // Rows in portions: a portal that is suspended.
        try (PreparedStatement p = c.prepareStatement("SELECT id FROM users ORDER BY id")) {
            p.setFetchSize(7);
            ResultSet r = p.executeQuery();
            long sum = 0;
            while (r.next()) {
                sum += r.getLong(1);
                if (r.getLong(1) == 20) show(s.executeUpdate("UPDATE users SET tenant = 6 WHERE id = 20"));
            }
            show("sum", sum);
        }
        c.rollback();
        c.setTransactionIsolation(Connection.TRANSACTION_SERIALIZABLE);
        rows(s.executeQuery("SHOW transaction_isolation"));
        c.rollback();
        c.setReadOnly(true);
        told(() -> s.execute("DELETE FROM users WHERE id = 5"));
        c.rollback();
        c.setReadOnly(false);
        LargeObjectManager objects = c.unwrap(PGConnection.class).getLargeObjectAPI();
        long oid = objects.createLO();
        LargeObject object = objects.open(oid);
        object.write(new byte[100_000]);
        object.write("the end".getBytes());
        object.seek(100_000);
        show(new String(object.read(20)), object.size());
        object.close();
        objects.delete(oid);
        c.commit();
        c.setAutoCommit(true);
    }

    static void schema(Connection c) throws Exception {
        Statement s = c.createStatement();
        show(s.executeUpdate("CREATE TABLE mine (a int, b text)"), s.executeUpdate("CREATE INDEX mine_a ON mine (a)"));
        PreparedStatement before = c.prepareStatement("SELECT * FROM mine");
        for (int n = 0; n < 7; n++) rows(before.executeQuery());
        try (PreparedStatement p = c.prepareStatement("ALTER TABLE mine ADD COLUMN d int DEFAULT 7")) {
            show(p.execute(), p.getUpdateCount());
        }
        // It was prepared by name before the column was there: with autosave pgjdbc prepares it again.
        told(() -> rows(before.executeQuery()));
        show(s.execute("ALTER TABLE mine ADD CONSTRAINT d_positive CHECK (d > 0)"));
        told(() -> s.execute("ALTER TABLE nobody ADD COLUMN d int"));
        c.setAutoCommit(false);
        s.execute("CREATE TABLE other (id int PRIMARY KEY)");
        s.execute("CREATE INDEX other_id ON other ((id + 1))");
        c.commit();
        s.execute("CREATE TABLE undone (id int)");
        c.rollback();
        c.setAutoCommit(true);
        s.execute("DROP TABLE IF EXISTS nobody");
        warnings(s.getWarnings());
        DatabaseMetaData meta = c.getMetaData();
        ResultSet columns = meta.getColumns(null, "public", "mine", null);
        while (columns.next()) show(columns.getString("COLUMN_NAME"), columns.getString("TYPE_NAME"), columns.getString("COLUMN_DEF"));
        ResultSet indexes = meta.getIndexInfo(null, "public", "mine", false, false);
        while (indexes.next()) show(indexes.getString("INDEX_NAME"), indexes.getString("COLUMN_NAME"));
        ResultSet keys = meta.getPrimaryKeys(null, "public", "users");
        while (keys.next()) show(keys.getString("PK_NAME"));
    }

    static void copies(Connection c) throws Exception {
        CopyManager copies = c.unwrap(PGConnection.class).getCopyAPI();
        StringBuilder text = new StringBuilder();
        for (int n = 0; n < 20_000; n++) text.append(n).append("\trow ").append(n).append('\n');
        show(copies.copyIn("COPY mine (a, b) FROM STDIN", new StringReader(text.toString())));
        StringWriter out = new StringWriter();
        show(copies.copyOut("COPY (SELECT a, b, d FROM mine ORDER BY a) TO STDOUT", out), out.toString().hashCode());
        told(() -> copies.copyIn("COPY mine (a) FROM STDIN", new StringReader("1\nwrong\n")));
        rows(c.createStatement().executeQuery("SELECT count(*), sum(a) FROM mine"));
    }

    public static void main(String[] arguments) throws Exception {
        try (Connection c = open(""); Connection other = open("&reWriteBatchedInserts=true")) {
            show(c.getMetaData().getDatabaseProductVersion(), c.getCatalog(), c.getSchema(), c.isValid(5));
            statements(c);
            errors(c);
            transactions(c);
            schema(c);
            copies(c);
            c.createStatement().execute("LISTEN channel");
            try (PreparedStatement p = other.prepareStatement("INSERT INTO users (id, tenant) VALUES (?, ?)")) {
                for (int n = 0; n < 100; n++) {
                    p.setInt(1, 20_000 + n);
                    p.setInt(2, n);
                    p.addBatch();
                }
                show(p.executeBatch().length);
            }
            other.createStatement().execute("NOTIFY channel, 'told'");
            for (PGNotification one : c.unwrap(PGConnection.class).getNotifications(20_000)) show(one.getName(), one.getParameter());
        }
        // Everything as simple queries, and with a savepoint before each statement.
        try (Connection c = open("&preferQueryMode=simple"); Connection saving = open("&autosave=always")) {
            PreparedStatement p = c.prepareStatement("UPDATE users SET tenant = ? WHERE id = ?");
            p.setInt(1, 4);
            p.setInt(2, 4);
            show(p.executeUpdate());
            c.createStatement().execute("ALTER TABLE mine ALTER COLUMN d SET DEFAULT 8");
            saving.setAutoCommit(false);
            Statement s = saving.createStatement();
            s.execute("INSERT INTO users (id) VALUES (30000)");
            told(() -> s.execute("SELECT 1 / 0"));
            rows(s.executeQuery("SELECT count(*) FROM users WHERE id = 30000"));
            saving.commit();
        }
        System.out.println("end");
    }
}
