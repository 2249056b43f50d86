class AddIndexAndColumn < ActiveRecord::Migration[6.1]
  def change
    add_index :books, :title
    add_column :books, :status, :string, null: false, default: "draft"
  end
end
